package httpserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"

	"muster"
	"muster/httpserver/api"
)

// write names a change for the registry's table of keys. The path is part of
// what the key stands for: it says which thing is changed.
func (r *Request) write() muster.Write {
	sum := sha256.Sum256(append([]byte(r.Path+"\n"), r.Body...))
	return muster.Write{By: r.Rights, Route: r.Route, Key: r.Key, Digest: hex.EncodeToString(sum[:])}
}

// hintRotate is the way out when a once-shown key is not shown again.
const hintRotate = "the key was shown once, by the node that made it; if it is lost, rotate it: muster key rotate gives it another secret"

func (s *Server) register(ctx context.Context, r *Request) (any, error) {
	var g muster.Registration
	if err := api.Decode(r.Body, &g); err != nil {
		return nil, err
	}
	if err := checkRegistration(g); err != nil {
		return nil, err
	}
	if err := exceeds(r.Rights, g.Scopes, "", nil); err != nil {
		return nil, err
	}
	done, err := s.cfg.Cluster.Register(ctx, r.write(), g)
	if err == nil && done.APIKey == nil {
		done.Hint = hintRotate
	}
	return done, err
}

const (
	maxText        = 255
	maxVersion     = 64
	maxDescription = 4 << 10
	maxMetadata    = 16 << 10
)

func checkRegistration(g muster.Registration) error {
	bad := complaints{}
	bad.name(g.Name)
	bad.when(g.Slug != "" && !muster.ValidSlug(g.Slug), "slug", "must be lower-case letters, digits and single dashes, at most 63")
	bad.when(g.Type == muster.TypeMaster, "type", "the cluster elects the master")
	bad.when(g.Type != "" && g.Type != muster.TypeMaster && g.Type != muster.TypeChild, "type", "must be child")
	bad.when(g.Credential != "", "credential", "not supported yet")
	bad.when(g.Weight < 0 || g.Weight > 1000, "weight", "must be from 1 to 1000")
	bad.text("version", g.Version, maxVersion)
	bad.text("description", g.Description, maxDescription)
	bad.text("replica_of", g.ReplicaOf, maxText)
	for _, c := range g.Capabilities {
		bad.when(!c.Valid(), "capabilities", strconv.Quote(string(c))+" is not lower-case letters, digits and single dashes, at most 63")
	}
	bad.scopes(g.Scopes)
	raw, err := json.Marshal(g.Metadata)
	bad.when(err != nil || len(raw) > maxMetadata, "metadata", "must be at most 16 KiB")
	reason := badURL(g.URL)
	bad.when(reason != "", "url", reason)
	return bad.err("the registration has invalid fields")
}
