package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster"
	"muster/httpserver/api"
	"muster/testdata/ports"

	"github.com/go-json-experiment/json"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/valyala/fasthttp"
	"go.etcd.io/bbolt"
)

// The benchmarks named Rate measure how much a cluster does for 1, 8 and 64
// clients that ask one of its followers, beside others that do less. All are
// asked by the same clients, and answer with about as much.

// crowds are how many clients ask at once.
var crowds = []int{1, 8, 64}

// rates runs one operation for several numbers of clients. Each is made by
// client, which returns what to repeat, with a number that is never repeated,
// and what to do at the end.
// It reports besides how much processor time some processes took for each.
func rates(b *testing.B, name string, pids, crowds []int, client func() (do func(i int64) error, end func(), err error)) {
	b.Helper()
	var next atomic.Int64
	for _, clients := range crowds {
		b.Run(fmt.Sprintf("%s/%d", name, clients), func(b *testing.B) {
			took := make([][]time.Duration, clients)
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			used := processor(b, pids)
			b.ResetTimer()
			for c := range clients {
				wg.Go(func() {
					do, end, err := client()
					if err != nil {
						b.Error(err)
						return
					}
					defer end()
					for left.Add(-1) >= 0 {
						began := time.Now()
						if err := do(next.Add(1)); err != nil {
							b.Error(err)
							return
						}
						took[c] = append(took[c], time.Since(began))
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			all := slices.Sorted(slices.Values(slices.Concat(took...)))
			if len(all) == 0 {
				return
			}
			ms := func(share float64) float64 {
				return float64(all[int(share*float64(len(all)-1))].Microseconds()) / 1000
			}
			b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "ops/s")
			b.ReportMetric(ms(0.5), "p50-ms")
			b.ReportMetric(ms(0.99), "p99-ms")
			b.ReportMetric(float64((processor(b, pids)-used).Microseconds())/float64(len(all)), "cpu-us/op")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// processor is how much processor time processes have taken until now. On Linux
// it is counted in hundredths of a second; elsewhere it is 0.
func processor(b *testing.B, pids []int) (used time.Duration) {
	b.Helper()
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		for _, ticks := range strings.Fields(rest)[11:13] { // utime and stime, proc(5)
			n, err := strconv.Atoi(ticks)
			if err != nil {
				b.Fatal(err)
			}
			used += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return used
}

// asker is one client with a connection of its own, as cheap as can be.
type asker struct {
	conn net.Conn
	in   *bufio.Reader
	out  *bufio.Writer
	key  string
}

// dial connects a client to a server, HOST:PORT.
func dial(addr, key string) (*asker, error) {
	conn, err := (&net.Dialer{}).Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &asker{conn, bufio.NewReader(conn), bufio.NewWriter(conn), key}, nil
}

// ask sends one request. Anything but a success is an error.
func (a *asker) ask(method, path, body string) ([]byte, error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.Header.SetMethod(method)
	req.SetRequestURI(path)
	req.Header.SetHost("node")
	if a.key != "" {
		req.Header.Set("Authorization", "Bearer "+a.key)
	}
	if body != "" {
		req.Header.SetContentType("application/json")
		req.SetBodyString(body)
	}
	if err := errors.Join(req.Write(a.out), a.out.Flush(), resp.Read(a.in)); err != nil {
		return nil, err
	}
	if resp.StatusCode() >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode(), resp.Body())
	}
	return bytes.Clone(resp.Body()), nil
}

// askOnce asks a server one thing over a connection that is made for it.
func askOnce(addr, method, path, body string) ([]byte, error) {
	a, err := dial(addr, "")
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.conn.Close() }()
	return a.ask(method, path, body)
}

// asked is rates of requests to one server.
func asked(b *testing.B, name string, pids []int, addr, key string, do func(a *asker, i int64) error) {
	b.Helper()
	rates(b, name, pids, crowds, func() (func(int64) error, func(), error) {
		a, err := dial(addr, key)
		if err != nil {
			return nil, nil, err
		}
		return func(i int64) error { return do(a, i) }, func() { _ = a.conn.Close() }, nil
	})
}

// target is three agents that are to be measured; there is a node "read me".
type target struct {
	*demo

	master string
	at     *api.Client // of a follower
	key    string      // which no rate limits
	pids   []int
}

func measured(b *testing.B) target {
	b.Helper()
	d, master := agents(b, "a", "b", "c")
	at := d.client(other(d, master))
	made, err := at.CreateKey(b.Context(), muster.KeySpec{Name: "load", Scopes: []string{"admin"}})
	if err != nil || made.Plain == nil {
		b.Fatal(made, err)
	}
	if _, err := at.Register(b.Context(), muster.Registration{Name: "read me", URL: "http://127.0.0.1:9/x"}, ""); err != nil {
		b.Fatal(err)
	}
	pids := make([]int, 0, len(d.procs))
	for _, p := range d.procs {
		pids = append(pids, p.Process.Pid)
	}
	return target{d, master, at, *made.Plain, pids}
}

// BenchmarkRateRegistry asks a follower of three agents: registrations,
// changes of one record, and readings of one record. The clients have a key
// with the scope admin, which is not counted against the limit of a key.
func BenchmarkRateRegistry(b *testing.B) {
	m := measured(b)
	addr := strings.TrimPrefix(m.at.Addrs[0], "http://")
	asked(b, "read", m.pids, addr, m.key, func(a *asker, _ int64) error {
		_, err := a.ask("GET", "/v1/nodes/read-me", "")
		return err
	})
	asked(b, "linearizable-read", m.pids, addr, m.key, func(a *asker, _ int64) error {
		_, err := a.ask("GET", "/v1/nodes/read-me?consistency=linearizable", "")
		return err
	})
	asked(b, "change", m.pids, addr, m.key, func(a *asker, i int64) error {
		_, err := a.ask("PATCH", "/v1/nodes/read-me", fmt.Sprintf(`{"description":"change %d"}`, i))
		return err
	})
	asked(b, "register", m.pids, addr, m.key, func(a *asker, i int64) error {
		_, err := a.ask("POST", "/v1/nodes", fmt.Sprintf(`{"name":"app %d","url":"http://127.0.0.1:9/x"}`, i))
		return err
	})
}

// bareAnswer is about as long as a node's record.
const bareAnswer = 700

// bareServer answers every request the same, over HTTP on an address.
func bareServer(addr string) error {
	answer := bytes.Repeat([]byte("x"), bareAnswer)
	s := fasthttp.Server{NoDefaultServerHeader: true, Handler: func(c *fasthttp.RequestCtx) { c.SetBody(answer) }}
	return s.ListenAndServe(addr)
}

// BenchmarkRateBareHTTP is what a process that does nothing answers.
func BenchmarkRateBareHTTP(b *testing.B) {
	addrs, err := ports.Free(b.Context(), 1)
	if err != nil {
		b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	pid := spawn(b, []string{"MUSTER_BARE=" + addrs[0]}, self)
	within(b, "a bare server", func() bool {
		_, err := askOnce(addrs[0], "GET", "/", "")
		return err == nil
	})
	asked(b, "round-trip", []int{pid}, addrs[0], "", func(a *asker, _ int64) error {
		_, err := a.ask("GET", "/v1/nodes/read-me", "")
		return err
	})
}

// spawn runs a program until the benchmark is over.
func spawn(b *testing.B, env []string, name string, args ...string) (pid int) {
	b.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), name, args...)
	cmd.Env = append(demoEnv(os.Environ()), env...)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func within(b *testing.B, what string, ok func() bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	for !ok() {
		if !look(ctx) {
			b.Fatalf("not within 30 s: %s", what)
		}
	}
}

// bareFSM keeps nothing.
type bareFSM struct{}

func (bareFSM) Apply(*raft.Log) any                 { return nil }
func (bareFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("not here") }
func (bareFSM) Restore(in io.ReadCloser) error      { return in.Close() }

// bareCommand is about as long as the command of a registration.
const bareCommand = 900

// BenchmarkRateBareRaft commits entries of three raft nodes in this process,
// with the stores and settings of agents, but no TLS, no HTTP and no registry.
func BenchmarkRateBareRaft(b *testing.B) {
	addrs, err := ports.Free(b.Context(), 3)
	if err != nil {
		b.Fatal(err)
	}
	var all raft.Configuration
	for _, addr := range addrs {
		all.Servers = append(all.Servers, raft.Server{ID: raft.ServerID(addr), Address: raft.ServerAddress(addr)})
	}
	nodes := make([]*raft.Raft, 0, len(addrs))
	for _, addr := range addrs {
		nodes = append(nodes, bareRaft(b, addr, all))
	}
	var leader *raft.Raft
	within(b, "a leader", func() bool {
		i := slices.IndexFunc(nodes, func(r *raft.Raft) bool { return r.State() == raft.Leader })
		if i >= 0 {
			leader = nodes[i]
		}
		return leader != nil
	})
	command := bytes.Repeat([]byte("x"), bareCommand)
	rates(b, "commit", []int{os.Getpid()}, crowds, func() (func(int64) error, func(), error) {
		return func(int64) error { return leader.Apply(command, 5*time.Second).Error() }, func() {}, nil
	})
}

func bareRaft(b *testing.B, addr string, all raft.Configuration) *raft.Raft {
	b.Helper()
	dir := b.TempDir()
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, "log.db"), BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if err != nil {
		b.Fatal(err)
	}
	log := hclog.NewNullLogger()
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, log)
	if err != nil {
		b.Fatal(err)
	}
	trans, err := raft.NewTCPTransportWithLogger(addr, nil, 3, 2*time.Second, log)
	if err != nil {
		b.Fatal(err)
	}
	cache, err := raft.NewLogCache(512, store)
	if err != nil {
		b.Fatal(err)
	}
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.Logger = raft.ServerID(addr), log
	cfg.BatchApplyCh = true
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 250*time.Millisecond
	r, err := raft.NewRaft(cfg, bareFSM{}, cache, store, snapshots, trans)
	if err != nil {
		b.Fatal(err)
	}
	if err := r.BootstrapCluster(all).Error(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = r.Shutdown().Error()
		_ = trans.Close()
		trans.CloseStreams()
		_ = store.Close()
	})
	return r
}

// BenchmarkRateEtcd asks a follower of three etcd members the same by its JSON
// gateway, where etcd is installed.
func BenchmarkRateEtcd(b *testing.B) {
	program, err := exec.LookPath("etcd")
	if err != nil {
		b.Skip("etcd is not installed: the comparison with it is left out")
	}
	addrs, err := ports.Free(b.Context(), 6)
	if err != nil {
		b.Fatal(err)
	}
	members := make([]string, 3)
	for i := range members {
		members[i] = fmt.Sprintf("m%d=http://%s", i, addrs[3+i])
	}
	pids := make([]int, 3)
	for i := range members {
		at, peer := "http://"+addrs[i], "http://"+addrs[3+i]
		pids[i] = spawn(b, nil, program, "--name", "m"+strconv.Itoa(i), "--data-dir", b.TempDir(), "--log-level", "error",
			"--listen-client-urls", at, "--advertise-client-urls", at, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(members, ","), "--initial-cluster-state", "new", "--initial-cluster-token", addrs[0])
	}
	var addr string
	within(b, "a follower of etcd", func() bool {
		addr = etcdFollower(addrs[:3])
		return addr != ""
	})
	key, value := base64.StdEncoding.EncodeToString([]byte("/nodes/read-me")), base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("x"), 500))
	put := func(key string) string { return `{"key":"` + key + `","value":"` + value + `"}` }
	if _, err := askOnce(addr, "POST", "/v3/kv/put", put(key)); err != nil {
		b.Fatal(err)
	}
	asked(b, "read", pids, addr, "", func(a *asker, _ int64) error {
		_, err := a.ask("POST", "/v3/kv/range", `{"key":"`+key+`","serializable":true}`)
		return err
	})
	asked(b, "linearizable-read", pids, addr, "", func(a *asker, _ int64) error {
		_, err := a.ask("POST", "/v3/kv/range", `{"key":"`+key+`"}`)
		return err
	})
	asked(b, "write", pids, addr, "", func(a *asker, i int64) error {
		_, err := a.ask("POST", "/v3/kv/put", put(base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "/nodes/app-%d", i))))
		return err
	})
}

// etcdFollower is the address of a member that knows another to lead, if any does.
func etcdFollower(addrs []string) string {
	for _, addr := range addrs {
		raw, err := askOnce(addr, "POST", "/v3/maintenance/status", "{}")
		var s struct {
			Header struct {
				Member string `json:"member_id"`
			} `json:"header"`
			Leader string `json:"leader"`
		}
		if err == nil && json.Unmarshal(raw, &s) == nil && s.Leader != "" && s.Leader != "0" && s.Leader != s.Header.Member {
			return addr
		}
	}
	return ""
}
