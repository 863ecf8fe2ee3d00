package httpserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"muster"
	"muster/httpserver/api"
)

// write names a change for the registry's table of keys. The path is part of
// what the key stands for: it says which thing is changed. Without a key nobody can
// ask for the same again, and there is nothing to compare: all nodes would keep a
// digest of what may be a secret, like a credential.
func (r *Request) write() muster.Write {
	w := muster.Write{By: r.Rights, Route: r.Route, Key: r.Key}
	if r.Key != "" {
		sum := sha256.Sum256(append([]byte(r.Path+"\n"), r.Body...))
		w.Digest = hex.EncodeToString(sum[:])
	}
	return w
}

// hintRotate is the way out when a once-shown key is not shown again.
const hintRotate = "the key was shown once, by the node that made it; if it is lost, rotate it: muster key rotate gives it another secret"

func (s *Server) register(ctx context.Context, r *Request) (any, error) {
	var g muster.Registration
	if err := api.Decode(r.Body, &g); err != nil {
		return nil, err
	}
	if err := checkRegistration(g, s.cfg.Distant); err != nil {
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
	maxCredential = 4 << 10
)

// goodCredential reports whether a credential can stand in a header. An empty
// one is none: then one is made.
func goodCredential(text string) bool {
	return len(text) <= maxCredential && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

func checkRegistration(g muster.Registration, distant bool) error {
	bad := complaints{}
	bad.node(muster.NodeChange{
		Name: &g.Name, Slug: given(g.Slug), Type: given(g.Type), URL: &g.URL, Capabilities: &g.Capabilities, Metadata: g.Metadata,
		Version: &g.Version, Description: &g.Description, Weight: g.Weight, ReplicaOf: &g.ReplicaOf,
	})
	bad.distant(distant, &g.URL)
	bad.when(!goodCredential(g.Credential), "credential", "must be at most 4096 printable ASCII characters without spaces")
	bad.scopes(g.Scopes)
	return bad.err("the registration has invalid fields")
}

// given is nil for what a registration leaves out.
func given[T comparable](value T) *T {
	if value == *new(T) {
		return nil
	}
	return &value
}
