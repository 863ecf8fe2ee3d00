package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"muster"
	"muster/httpserver/api"
)

// long skips a test that takes minutes, unless it was asked for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("MUSTER_CHAOS") == "" {
		t.Skip("a long run: make chaos")
	}
}

func TestFiftyStartsAtTheSameInstantFoundOneClusterEach(t *testing.T) {
	long(t)
	for round := range 50 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			d, _ := trio(t)
			first, err := d.client("a").Cluster(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range d.names {
				s, err := d.client(name).Cluster(t.Context())
				if err != nil || s.ClusterID != first.ClusterID {
					t.Fatalf("%s is in %s, not %s: %v", name, s.ClusterID, first.ClusterID, err)
				}
			}
		})
	}
}

func TestTwentyKillsOfTheMasterLoseAndDoubleNothing(t *testing.T) {
	long(t)
	d, master := trio(t)
	asker := make(chan string) // taken between two requests, so none is at a node that is about to die
	var done []string
	var took []time.Duration
	waits := make(chan time.Duration, 1)
	kills, stop := make(chan time.Time, 1), make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		at := <-asker
		var killed time.Time
		for i := 0; ; i++ {
			select {
			case at = <-asker:
			case killed = <-kills:
			case <-stop:
				return
			default:
			}
			r, err := d.client(at).Register(t.Context(), muster.Registration{Name: fmt.Sprint("app ", i), URL: "http://127.0.0.1:9/x"}, fmt.Sprint(i))
			if err != nil {
				t.Errorf("register %d at %s: %v", i, at, err)
				return
			}
			done = append(done, r.Node.Slug)
			if !killed.IsZero() {
				waits <- time.Since(killed)
				killed = time.Time{}
			}
		}
	}()
	asker <- other(d, master)
	for range 20 {
		killed := master
		if err := d.kill(killed); err != nil {
			t.Fatal(err)
		}
		kills <- time.Now()
		select {
		case w := <-waits:
			took = append(took, w)
		case <-finished:
			t.FailNow()
		}
		if err := d.start(killed); err != nil {
			t.Fatal(err)
		}
		if master = settled(t, d); master == "" {
			t.Fatal("no three voters again")
		}
		select {
		case asker <- other(d, master):
		case <-finished:
			t.FailNow()
		}
	}
	close(stop)
	<-finished
	slices.Sort(took)
	t.Logf("from the kill to the next write: median %v, maximum %v", took[10].Round(time.Millisecond), took[19].Round(time.Millisecond))
	fmt.Printf("failover over 20 SIGKILLs, kill to the next acknowledged write: median %v, maximum %v\n", took[10].Round(time.Millisecond), took[19].Round(time.Millisecond))
	if took[10] > 2*time.Second || took[19] > 5*time.Second {
		t.Errorf("too slow")
	}
	for _, name := range d.names {
		// A local read may be a moment behind the last write; this one may not.
		var page api.Nodes
		if err := d.client(name).Do(t.Context(), http.MethodGet, "/v1/nodes?limit=1000&consistency=linearizable", nil, &page); err != nil {
			t.Fatal(err)
		}
		if page.Cursor != "" {
			t.Fatal("more nodes than one page shows")
		}
		have := map[string]int{}
		for _, n := range page.Nodes {
			have[n.Slug]++
		}
		for _, slug := range done {
			if have[slug] != 1 {
				t.Errorf("%s of %d is at %s %d times", slug, len(done), name, have[slug])
			}
		}
	}
}

func other(d *demo, master string) string {
	return d.names[(slices.Index(d.names, master)+1)%len(d.names)]
}

// settled waits until all three vote again and agree on a master.
func settled(t *testing.T, d *demo) (master string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for look(ctx) {
		if s, whole := d.whole(ctx); whole {
			return s.Master.Slug
		}
	}
	return ""
}
