package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster"
	"muster/httpserver/api"
)

// front is the node that many clients ask. It changes only between requests, so
// that none is at a node that is about to die.
type front struct {
	mu   sync.RWMutex
	name string      // guarded by mu
	at   *api.Client // guarded by mu
}

func (f *front) move(d *demo, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.name, f.at = name, d.client(name)
	f.at.HTTP = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
}

func (f *front) register(ctx context.Context, name string) (muster.Registered, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	got, err := f.at.Register(ctx, muster.Registration{Name: name, URL: "http://127.0.0.1:9/x"}, name)
	if err != nil {
		return got, fmt.Errorf("register %s at %s: %w", name, f.name, err)
	}
	return got, nil
}

// kill is one of the master, once some registrations are acknowledged. Clients
// that are far beyond that wait for it, so that it never comes too late.
type kill struct {
	when int64
	gate chan struct{} // closed once it is done
}

func TestAThousandRegistrationsOf64ClientsOutliveTwoMasters(t *testing.T) {
	const clients, total = 64, 1000
	d, master := agents(t, "a", "b", "c", "d", "e")
	var at front
	at.move(d, other(d, master))
	defer func() { at.at.HTTP.CloseIdleConnections() }()

	var next, acknowledged atomic.Int64
	ids := make([]string, total)
	kills := []kill{{when: total / 5, gate: make(chan struct{})}, {when: total / 2, gate: make(chan struct{})}}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				for i := next.Add(1) - 1; i < total; i = next.Add(1) - 1 {
					for _, k := range kills {
						if i >= k.when+total/5 {
							<-k.gate
						}
					}
					got, err := at.register(t.Context(), fmt.Sprintf("app-%04d", i))
					if err != nil {
						t.Error(err)
						return
					}
					ids[i] = got.Node.ID
					acknowledged.Add(1)
				}
			})
		}
		all.Wait()
	}()
	dead := map[string]bool{}
	for _, k := range kills {
		until(t, fmt.Sprint(k.when, " registrations"), func() bool { return acknowledged.Load() >= k.when || t.Failed() })
		if at.name == master {
			at.at.HTTP.CloseIdleConnections()
			at.move(d, living(d, dead, master))
		}
		if err := d.kill(master); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		dead[master] = true
		done := acknowledged.Load()
		close(k.gate)
		until(t, "another master", func() bool {
			s, err := d.client(at.name).Cluster(t.Context())
			if err != nil || s.Master == nil || dead[s.Master.Slug] {
				return false
			}
			master = s.Master.Slug
			return acknowledged.Load() > done
		})
		t.Logf("%d were acknowledged when the master died, the next ones %v later", done, time.Since(killed).Round(time.Millisecond))
	}
	<-finished
	for _, name := range d.names {
		if !dead[name] {
			sameNodes(t, d, name, ids)
		}
	}
}

// living is a node that is neither dead nor the master.
func living(d *demo, dead map[string]bool, master string) string {
	for _, name := range d.names {
		if !dead[name] && name != master {
			return name
		}
	}
	return ""
}

// sameNodes checks that a node has each application once, by the ID that its
// registration was answered with.
func sameNodes(t *testing.T, d *demo, at string, ids []string) {
	t.Helper()
	have := map[string]string{}
	for cursor := ""; ; {
		var page api.Nodes
		query := url.Values{"limit": {"1000"}, "consistency": {"linearizable"}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		if err := d.client(at).Do(t.Context(), http.MethodGet, "/v1/nodes?"+query.Encode(), nil, &page); err != nil {
			t.Fatal(err)
		}
		for _, n := range page.Nodes {
			if n.Kind != muster.KindExternal {
				continue
			}
			if have[n.Slug] != "" {
				t.Errorf("%s is at %s twice", n.Slug, at)
			}
			have[n.Slug] = n.ID
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if len(have) != len(ids) {
		t.Errorf("%s has %d applications, not %d", at, len(have), len(ids))
	}
	for i, id := range ids {
		if slug := fmt.Sprintf("app-%04d", i); have[slug] != id {
			t.Errorf("%s at %s is %q, but it was answered with %q", slug, at, have[slug], id)
		}
	}
}
