package muster_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// house says who may import whom. A package that is not named may not exist.
var house = map[string][]string{
	".":            {},
	"fsm":          {"."},
	"gossip":       {"."},
	"search/query": {"."},
	"search":       {".", "search/query"},
	"search/index": {".", "search/query"},
	"actions":      {"."},

	"actions/journal": {"."},
	"actions/tx":      {".", "fsm"},

	"cluster":        {".", "fsm"},
	"cluster/trust":  {"."},
	"httpserver/api": {"."},
	"httpserver":     {".", "httpserver/api"},

	"httpserver/reqlog":  {".", "httpserver/api"},
	"httpserver/metrics": {".", "httpserver/api"},
	"httpserver/doctor":  {".", "httpserver/api"},
	"cmd/daemon": {
		".", "fsm", "gossip", "search", "search/query", "search/index", "actions", "actions/journal", "actions/tx", "cluster", "cluster/trust",
		"httpserver", "httpserver/api", "httpserver/reqlog", "httpserver/metrics", "httpserver/doctor",
	},
	"cmd/muster": {".", "cmd/daemon", "httpserver/api", "cluster/trust", "testdata/corpora", "testdata/actions", "testdata/ports"},
}

// fences says which rooms may use a library.
var fences = map[string][]string{
	"github.com/hashicorp/raft":         {"fsm", "cluster"},
	"github.com/hashicorp/raft-boltdb/": {"cluster"},
	"go.etcd.io/bbolt":                  {"cluster", "httpserver/reqlog", "actions/journal"},
	"github.com/prometheus/":            {"httpserver/metrics"},
	"github.com/hashicorp/go-metrics":   {"httpserver/metrics"},
	"github.com/armon/go-metrics":       {"httpserver/metrics"},
	"github.com/hashicorp/go-hclog":     {"cluster", "cmd/daemon"}, // the bridge to slog
	"github.com/hashicorp/memberlist":   {"gossip"},
	"github.com/valyala/fasthttp":       {"httpserver"},
	"github.com/blevesearch/":           {"search/index"},
	"github.com/maypok86/otter/":        {"search"},
	"github.com/alecthomas/kong":        {"cmd/muster"},
	"github.com/golang-jwt/":            {"cluster/trust"},
}

// outside names the top-level folders that hold none of the product's code.
var outside = []string{"tools", "docs", "deploy", "bin", ".git", ".ci"}

func TestHouseKeepsItsFloorPlan(t *testing.T) {
	documented := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || slices.Contains(outside, path)) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		room := filepath.ToSlash(filepath.Dir(path))
		documented[room] = documented[room] || file.Doc != nil
		judge(t, room, path, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for room, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", room)
		}
	}
}

func judge(t *testing.T, room, path string, file *ast.File) {
	t.Helper()
	may, known := house[room]
	if !known {
		t.Errorf("%s: the house has no room %s", path, room)
		return
	}
	for _, spec := range file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		inside, own := strings.CutPrefix(name, "muster/")
		switch {
		case name == "muster":
			inside, own = ".", true
		case room == "." && strings.Contains(name, "."):
			t.Errorf("%s: the root may not import %s", path, name)
		}
		if own && !slices.Contains(may, inside) {
			t.Errorf("%s: %s may not import %s", path, room, inside)
		}
		for library, rooms := range fences {
			fits := name == library || strings.HasPrefix(name, strings.TrimSuffix(library, "/")+"/")
			if fits && !slices.Contains(rooms, room) {
				t.Errorf("%s: %s may not import %s", path, room, name)
			}
		}
	}
}
