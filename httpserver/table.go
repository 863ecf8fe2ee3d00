package httpserver

import (
	"net/http"
	"slices"

	"muster"
	"muster/httpserver/api"
)

func (s *Server) table() []Route {
	fresh := []string{"consistency", "min_index"}
	listQuery := append([]string{"status", "type", "capability", "healthy", "q", "deleted", "limit", "cursor"}, fresh...)
	searchQuery := []string{"q", "limit", "nodes", "collections", "timeout_ms", "operator", "local", "dedupe", "cache", "content_length"}
	inCollection := []string{"collection"}
	return slices.Concat(s.actionTable(), s.jobTable(), s.txTable(), s.pingTable(), s.watchTable(), s.curateTable(), s.moveTable(), []Route{
		{Method: "GET", Path: api.PathHealth, Scope: muster.ScopePublic, Handle: s.health},
		{Method: "POST", Path: "/api/ai-engine/register", Scope: muster.ScopeRegistry, Write: true, Open: true, Status: http.StatusCreated, Handle: s.register},
		{Method: "GET", Path: "/api/ai-engine/status", Scope: muster.ScopeAny, Handle: s.nodeStatus},
		{Method: "GET", Path: "/healthz", Scope: muster.ScopePublic, Handle: s.healthz},
		{Method: "GET", Path: "/readyz", Scope: muster.ScopePublic, Query: []string{"for"}, Handle: s.readyz},
		{Method: "GET", Path: "/v1/nodes", Scope: muster.ScopeRead, Query: listQuery, Handle: s.listNodes},
		{Method: "POST", Path: "/v1/nodes", Scope: muster.ScopeRegistry, Write: true, Status: http.StatusCreated, Handle: s.register},
		{Method: "GET", Path: "/v1/nodes/{slug}", Scope: muster.ScopeRead, Query: fresh, Handle: s.showNode},
		{Method: "GET", Path: "/v1/cluster", Scope: muster.ScopeRead, Handle: s.cluster},
		{Method: "GET", Path: api.PathDoctor, Scope: muster.ScopeAdmin, AtNode: true, Handle: s.doctor},
		{Method: "DELETE", Path: "/v1/cluster/peers/{slug}", Scope: muster.ScopeAdmin, Write: true, Handle: s.removePeer},
		{Method: "POST", Path: "/api/ai-engine/search", Scope: muster.ScopeSearch, Handle: s.search},
		{Method: "POST", Path: "/v1/search", Scope: muster.ScopeSearch, Handle: s.search},
		{Method: "GET", Path: "/v1/search", Scope: muster.ScopeSearch, Query: searchQuery, Handle: s.searchByURL},
		{Method: "GET", Path: "/v1/search/cache", Scope: muster.ScopeAdmin, Query: []string{"limit", "cursor"}, Handle: s.listCache},
		{Method: "DELETE", Path: "/v1/search/cache", Scope: muster.ScopeAdmin, Write: true, Handle: s.flushCache},
		{
			Method: "POST", Path: "/v1/documents", Scope: muster.ScopeIndex, Write: true, Body: maxDocuments,
			Media: api.MediaNDJSON, AtNode: true, Handle: s.addDocuments,
		},
		{Method: "DELETE", Path: "/v1/documents", Scope: muster.ScopeIndex, Write: true, Query: inCollection, AtNode: true, Handle: s.deleteCollection},
		{Method: "GET", Path: "/v1/documents/{id}", Scope: muster.ScopeIndex, Query: inCollection, AtNode: true, Handle: s.getDocument},
		{Method: "DELETE", Path: "/v1/documents/{id}", Scope: muster.ScopeIndex, Write: true, Query: inCollection, AtNode: true, Handle: s.deleteDocument},
		{Method: "GET", Path: "/v1/index", Scope: muster.ScopeRead, AtNode: true, Handle: s.indexStats},
		{Method: "POST", Path: "/v1/index/rebuild", Scope: muster.ScopeAdmin, Bare: true, AtNode: true, Handle: s.rebuildIndex},
		{Method: "POST", Path: api.PathPin, Scope: muster.ScopeNode, Handle: s.pin},
		{Method: "POST", Path: api.PathShard, Scope: muster.ScopeNode, Handle: s.shard},
		{Method: "GET", Path: "/v1/keys", Scope: muster.ScopeAdmin, Handle: s.listKeys},
		{Method: "POST", Path: "/v1/keys", Scope: muster.ScopeAdmin, Write: true, Status: http.StatusCreated, Handle: s.createKey},
		{Method: "POST", Path: "/v1/keys/{id}/rotate", Scope: muster.ScopeAdmin, Write: true, Status: http.StatusCreated, Handle: s.rotateKey},
		{Method: "POST", Path: "/v1/nodes/{slug}/key", Scope: muster.ScopeRegistry, Write: true, Status: http.StatusCreated, Handle: s.nodeKey},
		{Method: "DELETE", Path: "/v1/keys/{id}", Scope: muster.ScopeAdmin, Write: true, Handle: s.revokeKey},
		{Method: "POST", Path: api.PathApply, Scope: muster.ScopeNode, Write: true, Body: maxCommands, Handle: s.apply},
		{Method: "POST", Path: api.PathJoin, Scope: muster.ScopeNode, Write: true, Handle: s.join},
		{Method: "GET", Path: api.PathReadIndex, Scope: muster.ScopeNode, Handle: s.readIndex},
	})
}
