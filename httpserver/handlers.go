package httpserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"muster"
	"muster/httpserver/api"
)

func (s *Server) table() []Route {
	return []Route{
		{Method: "GET", Path: api.PathHealth, Scope: muster.ScopePublic, Handle: s.health},
		{Method: "POST", Path: "/api/ai-engine/register", Scope: muster.ScopeRegistry, Write: true, Status: http.StatusCreated, Handle: s.register},
		{Method: "GET", Path: "/api/ai-engine/status", Scope: muster.ScopeAny, Handle: s.status},
		{Method: "GET", Path: "/healthz", Scope: muster.ScopePublic, Handle: s.healthz},
		{Method: "GET", Path: "/readyz", Scope: muster.ScopePublic, Handle: s.readyz},
		{Method: "GET", Path: "/v1/nodes", Scope: muster.ScopeRead, Handle: s.listNodes},
		{Method: "POST", Path: "/v1/nodes", Scope: muster.ScopeRegistry, Write: true, Status: http.StatusCreated, Handle: s.register},
		{Method: "GET", Path: "/v1/nodes/{slug}", Scope: muster.ScopeRead, Handle: s.showNode},
		{Method: "GET", Path: "/v1/cluster", Scope: muster.ScopeRead, Handle: s.cluster},
		{Method: "DELETE", Path: "/v1/cluster/peers/{slug}", Scope: muster.ScopeAdmin, Write: true, Handle: s.removePeer},
		{Method: "POST", Path: "/api/ai-engine/search", Scope: muster.ScopeSearch, Handle: s.search},
		{Method: "POST", Path: "/v1/search", Scope: muster.ScopeSearch, Handle: s.search},
		{Method: "GET", Path: "/v1/search", Scope: muster.ScopeSearch, Handle: s.searchByURL},
		{
			Method: "POST", Path: "/v1/documents", Scope: muster.ScopeIndex, Write: true, Body: maxDocuments,
			Media: api.MediaNDJSON, AtNode: true, Handle: s.addDocuments,
		},
		{Method: "DELETE", Path: "/v1/documents", Scope: muster.ScopeIndex, Write: true, AtNode: true, Handle: s.deleteCollection},
		{Method: "GET", Path: "/v1/documents/{id}", Scope: muster.ScopeIndex, AtNode: true, Handle: s.getDocument},
		{Method: "DELETE", Path: "/v1/documents/{id}", Scope: muster.ScopeIndex, Write: true, AtNode: true, Handle: s.deleteDocument},
		{Method: "GET", Path: "/v1/index", Scope: muster.ScopeRead, AtNode: true, Handle: s.indexStats},
		{Method: "POST", Path: "/v1/index/rebuild", Scope: muster.ScopeAdmin, AtNode: true, Handle: s.rebuildIndex},
		{Method: "POST", Path: api.PathPin, Scope: muster.ScopeNode, Handle: s.pin},
		{Method: "POST", Path: api.PathShard, Scope: muster.ScopeNode, Handle: s.shard},
		{Method: "GET", Path: "/v1/keys", Scope: muster.ScopeAdmin, Handle: s.listKeys},
		{Method: "POST", Path: "/v1/keys", Scope: muster.ScopeAdmin, Write: true, Status: http.StatusCreated, Handle: s.createKey},
		{Method: "DELETE", Path: "/v1/keys/{id}", Scope: muster.ScopeAdmin, Write: true, Handle: s.revokeKey},
		{Method: "POST", Path: api.PathApply, Scope: muster.ScopeNode, Write: true, Handle: s.apply},
		{Method: "POST", Path: api.PathJoin, Scope: muster.ScopeNode, Write: true, Handle: s.join},
		{Method: "GET", Path: api.PathReadIndex, Scope: muster.ScopeNode, Handle: s.readIndex},
	}
}

func (s *Server) self() muster.Node {
	for _, n := range s.cfg.Cluster.Nodes() {
		if n.ID == s.cfg.ID {
			return n
		}
	}
	return muster.Node{ID: s.cfg.ID, Name: s.cfg.Name, Type: muster.TypeChild, Capabilities: []muster.Capability{}}
}

func (s *Server) slug() string {
	self := s.self()
	return self.Slug
}

func (s *Server) health(context.Context, *Request) (any, error) {
	self := s.self()
	status := s.cfg.Cluster.Status()
	h := api.Health{
		Status: "healthy", Ready: true, Degraded: []string{}, ID: self.ID, Name: self.Name, Slug: self.Slug,
		Version: muster.Version, Capabilities: self.Capabilities, Type: self.Type, Cluster: status.ClusterID, Timestamp: time.Now().UTC(),
	}
	if status.Master != nil {
		h.Master = status.Master.Slug
	} else {
		h.Degraded = append(h.Degraded, "no_master")
	}
	if waiting := s.cfg.Waiting(); len(waiting) > 0 {
		h.Status, h.Ready, h.Checks = "unhealthy", false, waiting
		return unready{h}, nil
	}
	return h, nil
}

// unready marks an answer that goes out as 503.
type unready struct{ api.Health }

func (s *Server) healthz(context.Context, *Request) (any, error) {
	return map[string]string{"status": "alive"}, nil
}

func (s *Server) readyz(_ context.Context, r *Request) (any, error) {
	if waiting := s.cfg.Waiting(); len(waiting) > 0 {
		what := make([]string, 0, len(waiting))
		for part, why := range waiting {
			what = append(what, part+": "+why)
		}
		slices.Sort(what)
		return nil, muster.Errorf(muster.Unavailable, "not ready: %s", strings.Join(what, "; ")).WithCode("not_ready").
			WithHint("it goes on trying by itself; check --join and that a member is up")
	}
	if r.Query.Get("for") == "write" && s.cfg.Cluster.Status().Master == nil {
		return nil, muster.Errorf(muster.NoMaster, "there is no master now").WithHint("a majority of voters must be up")
	}
	return map[string]string{"status": "ready"}, nil
}

func (s *Server) status(_ context.Context, r *Request) (any, error) {
	self := s.self()
	for _, n := range s.cfg.Cluster.Nodes() {
		if r.Rights.NodeID != "" && n.ID == r.Rights.NodeID {
			self = n
		}
	}
	return map[string]any{
		"node": self, "caller": r.Rights.Principal, "cluster": s.cfg.Cluster.Status(),
		"health": map[string]any{
			"is_healthy": self.Healthy, "avg_response_time": self.AvgResponseTime,
			"ping_failures": self.PingFailures, "last_ping_at": self.LastPingAt,
		},
	}, nil
}

func (s *Server) cluster(context.Context, *Request) (any, error) { return s.cfg.Cluster.Status(), nil }

// fresh waits until this node's copy is as new as the caller asked for.
func (s *Server) fresh(ctx context.Context, q url.Values) error {
	if text := q.Get("min_index"); text != "" {
		index, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return muster.FieldError("min_index", "must be a whole number")
		}
		if err := s.cfg.Cluster.WaitIndex(ctx, index); err != nil {
			return err
		}
	}
	switch q.Get("consistency") {
	case "", "local":
		return nil
	case "linearizable":
		return s.cfg.Cluster.Linearize(ctx)
	default:
		return muster.FieldError("consistency", "must be local or linearizable")
	}
}

func known(q url.Values, names ...string) error {
	for name := range q {
		if !slices.Contains(names, name) {
			return muster.FieldError(name, "no such query parameter")
		}
	}
	return nil
}

const (
	defaultPage = 100
	maxPage     = 1000
)

func (s *Server) listNodes(ctx context.Context, r *Request) (any, error) {
	q := r.Query
	if err := known(q, "status", "type", "capability", "healthy", "q", "deleted", "limit", "cursor", "consistency", "min_index"); err != nil {
		return nil, err
	}
	if err := s.fresh(ctx, q); err != nil {
		return nil, err
	}
	limit := defaultPage
	if text := q.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxPage {
			return nil, muster.FieldError("limit", "must be from 1 to 1000")
		}
	}
	keep, err := filter(q)
	if err != nil {
		return nil, err
	}
	page := api.Nodes{Nodes: []muster.Node{}}
	nodes := s.cfg.Cluster.Nodes()
	slices.SortFunc(nodes, func(a, b muster.Node) int { return strings.Compare(place(a), place(b)) })
	for _, n := range nodes {
		if !keep(n) {
			continue
		}
		page.Total++
		if place(n) <= q.Get("cursor") {
			continue
		}
		if len(page.Nodes) == limit {
			page.Cursor = place(page.Nodes[limit-1])
			continue
		}
		page.Nodes = append(page.Nodes, n)
	}
	return page, nil
}

// place orders the nodes in lists: by slug, then by ID. The separator is below
// all that a slug holds, the dash too.
func place(n muster.Node) string { return n.Slug + " " + n.ID }

func filter(q url.Values) (func(muster.Node) bool, error) {
	flags := map[string]bool{}
	for _, name := range []string{"healthy", "deleted"} {
		if text := q.Get(name); text != "" {
			v, err := strconv.ParseBool(text)
			if err != nil {
				return nil, muster.FieldError(name, "must be true or false")
			}
			flags[name] = v
		}
	}
	return func(n muster.Node) bool {
		healthy, asked := flags["healthy"]
		return (n.DeletedAt != nil) == flags["deleted"] && (!asked || n.Healthy == healthy) &&
			(q.Get("status") == "" || string(n.Status) == q.Get("status")) &&
			(q.Get("type") == "" || string(n.Type) == q.Get("type")) &&
			(q.Get("capability") == "" || n.Can(muster.Capability(q.Get("capability")))) &&
			strings.Contains(strings.ToLower(n.Name+" "+n.Slug), strings.ToLower(q.Get("q")))
	}, nil
}

func (s *Server) showNode(ctx context.Context, r *Request) (any, error) {
	if err := known(r.Query, "consistency", "min_index"); err != nil {
		return nil, err
	}
	if err := s.fresh(ctx, r.Query); err != nil {
		return nil, err
	}
	for _, n := range s.cfg.Cluster.Nodes() {
		if n.Slug == r.Params["slug"] && n.DeletedAt == nil {
			return n, nil
		}
	}
	return nil, muster.Errorf(muster.NotFound, "no node %s", r.Params["slug"])
}

// write names a change for the registry's table of keys. The path is part of
// what the key stands for: it says which thing is changed.
func (r *Request) write() muster.Write {
	sum := sha256.Sum256(append([]byte(r.Path+"\n"), r.Body...))
	return muster.Write{By: r.Rights, Route: r.Route, Key: r.Key, Digest: hex.EncodeToString(sum[:])}
}

func (s *Server) register(ctx context.Context, r *Request) (any, error) {
	var g muster.Registration
	if err := api.Decode(r.Body, &g); err != nil {
		return nil, err
	}
	if err := checkRegistration(g, r.Rights); err != nil {
		return nil, err
	}
	return s.cfg.Cluster.Register(ctx, r.write(), g)
}

const (
	maxText     = 255
	maxMetadata = 16 << 10
	maxKeyLife  = 10 * 365 * 24 * time.Hour
)

func checkRegistration(g muster.Registration, by muster.Rights) error {
	word := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	bad := map[string][]string{}
	complain := func(when bool, field, reason string) {
		if when {
			bad[field] = append(bad[field], reason)
		}
	}
	complain(strings.TrimSpace(g.Name) == "" || len(g.Name) > maxText || !utf8.ValidString(g.Name), "name", "must have 1 to 255 bytes")
	complain(g.Slug != "" && (!word.MatchString(g.Slug) || len(g.Slug) > 63), "slug", "must be lower-case letters, digits and single dashes, at most 63")
	complain(g.Type == muster.TypeMaster, "type", "the cluster elects the master")
	complain(g.Type != "" && g.Type != muster.TypeMaster && g.Type != muster.TypeChild, "type", "must be child")
	complain(g.Credential != "", "credential", "not supported yet")
	complain(g.Weight < 0 || g.Weight > 1000, "weight", "must be from 1 to 1000")
	for _, c := range g.Capabilities {
		complain(!word.MatchString(string(c)), "capabilities", strconv.Quote(string(c))+" is not lower-case letters, digits and dashes")
	}
	for _, scope := range g.Scopes {
		complain(!muster.ValidScope(scope), "scopes", strconv.Quote(scope)+" is no scope")
		complain(muster.ValidScope(scope) && !by.May(scope), "scopes", "you do not hold "+scope)
	}
	if raw, err := json.Marshal(g.Metadata); err != nil || len(raw) > maxMetadata {
		complain(true, "metadata", "must be at most 16 KiB")
	}
	complain(!goodURL(g.URL), "url", "must be an absolute http or https URL, not a link-local address")
	if len(bad) > 0 {
		return &muster.Error{Kind: muster.Invalid, Message: "the registration has invalid fields", Fields: bad, Hint: "see errors for each field"}
	}
	return nil
}

func goodURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err != nil || !ip.Unmap().IsLinkLocalUnicast()
}

func (s *Server) createKey(ctx context.Context, r *Request) (any, error) {
	var spec muster.KeySpec
	if err := api.Decode(r.Body, &spec); err != nil {
		return nil, err
	}
	if spec.Name == "" || len(spec.Name) > maxText {
		return nil, muster.FieldError("name", "must have 1 to 255 bytes")
	}
	if len(spec.Scopes) == 0 {
		return nil, muster.FieldError("scopes", "at least one is needed")
	}
	for _, scope := range spec.Scopes {
		if !muster.ValidScope(scope) {
			return nil, muster.FieldError("scopes", strconv.Quote(scope)+" is no scope")
		}
	}
	if spec.MaxRisk != "" && spec.MaxRisk.Level() == 0 {
		return nil, muster.FieldError("max_risk", "must be read, low, medium, high or destructive")
	}
	if spec.ExpiresIn != "" {
		if d, err := time.ParseDuration(spec.ExpiresIn); err != nil || d <= 0 || d > maxKeyLife {
			return nil, muster.FieldError("expires_in", "must be a duration like 720h, above 0 and at most 10 years")
		}
	}
	return s.cfg.Cluster.CreateKey(ctx, r.write(), spec)
}

func (s *Server) listKeys(context.Context, *Request) (any, error) {
	keys := slices.DeleteFunc(s.cfg.Keys(), func(k muster.Key) bool { return k.RevokedAt != nil })
	return api.Keys{Keys: append([]muster.Key{}, keys...)}, nil
}

func (s *Server) revokeKey(ctx context.Context, r *Request) (any, error) {
	return map[string]bool{"success": true}, s.cfg.Cluster.RevokeKey(ctx, r.write(), r.Params["id"])
}

func (s *Server) removePeer(ctx context.Context, r *Request) (any, error) {
	return map[string]bool{"success": true}, s.cfg.Cluster.RemovePeer(ctx, r.write(), r.Params["slug"])
}

func (s *Server) apply(ctx context.Context, r *Request) (any, error) {
	return s.cfg.Cluster.Apply(ctx, r.Node, r.Rights, r.Body)
}

func (s *Server) join(ctx context.Context, r *Request) (any, error) {
	var j muster.Joining
	if err := api.Decode(r.Body, &j); err != nil {
		return nil, err
	}
	if r.Rights.Principal != "node:"+j.ID || r.CallID != j.CallID {
		return nil, muster.Errorf(muster.Forbidden, "%s cannot join as node %s", r.Rights.Principal, j.ID)
	}
	return s.cfg.Cluster.Join(ctx, j)
}

func (s *Server) readIndex(ctx context.Context, _ *Request) (any, error) {
	index, err := s.cfg.Cluster.ReadIndex(ctx)
	return api.Index{Index: index}, err
}
