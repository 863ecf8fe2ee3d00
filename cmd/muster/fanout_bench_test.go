package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"muster"
	"muster/httpserver/api"
	"muster/testdata/ports"
)

// abreast is how many calls of a fan-out are under way at once: an agent's default.
const abreast = 10

// BenchmarkFanOut has n agents do nothing, all at once: through one of them, by a
// bare client that calls each of them itself, and, where nats-server is installed, by a
// request over NATS that n subscribers answer. Reported are the median and the 99th
// percentile.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{3, 8, 16} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			d, master := company(b, n), "n1"
			key, err := d.client(master).CreateKey(b.Context(), muster.KeySpec{Name: "bench", Scopes: []string{muster.ScopeAdmin}})
			if err != nil {
				b.Fatal(err)
			}
			transport := &http.Transport{MaxIdleConnsPerHost: 64}
			b.Cleanup(transport.CloseIdleConnections)
			web := &http.Client{Transport: transport}
			one := &api.Client{Addrs: []string{d.urls[master]}, Key: *key.Plain, HTTP: web}
			for known := false; !known; { // every copy has to know the key
				known = true
				for _, url := range d.urls {
					known = known && bareRun(b.Context(), web, url, *key.Plain) == nil
				}
			}
			b.Run("muster", func(b *testing.B) {
				percentiles(b, func() error {
					a, err := one.Run(b.Context(), muster.Run{Action: "node.ping", On: muster.Selector{All: true}})
					if err == nil && a.SuccessCount != n {
						err = fmt.Errorf("%d of %d", a.SuccessCount, n)
					}
					return err
				})
			})
			b.Run("bare", func(b *testing.B) {
				percentiles(b, func() error { return bareFan(b.Context(), web, d.urls, *key.Plain) })
			})
			b.Run("nats", func(b *testing.B) {
				ask := subscribers(b, n)
				percentiles(b, ask)
			})
		})
	}
}

// percentiles runs what is measured and reports how long it took.
func percentiles(b *testing.B, do func() error) {
	b.Helper()
	var all []time.Duration
	for b.Loop() {
		began := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(all[len(all)/2]), "ms-p50")
	b.ReportMetric(ms(all[len(all)*99/100]), "ms-p99")
}

// bareRun has one agent run the action on itself.
func bareRun(ctx context.Context, web *http.Client, url, key string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+api.PathOwnActions, strings.NewReader(`{"action":"node.ping"}`))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	got, err := web.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = got.Body.Close() }()
	raw, err := io.ReadAll(got.Body)
	if err == nil && !bytes.Contains(raw, []byte(`"success":true`)) {
		err = fmt.Errorf("%d %s", got.StatusCode, raw)
	}
	return err
}

// bareFan calls all agents, so many at once.
func bareFan(ctx context.Context, web *http.Client, urls map[string]string, key string) error {
	errs := make(chan error, len(urls))
	places := make(chan struct{}, abreast)
	for _, url := range urls {
		places <- struct{}{}
		go func() {
			errs <- bareRun(ctx, web, url, key)
			<-places
		}()
	}
	for range urls {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// subscribers are n connections to a NATS server of this benchmark's own, that
// answer each request. The result asks all of them and waits for n answers.
func subscribers(b *testing.B, n int) (ask func() error) {
	b.Helper()
	path, err := exec.LookPath("nats-server")
	if err != nil {
		b.Skip("nats-server is not installed")
	}
	addrs, err := ports.Free(b.Context(), 1)
	if err != nil {
		b.Fatal(err)
	}
	_, port, err := net.SplitHostPort(addrs[0])
	if err != nil {
		b.Fatal(err)
	}
	server := exec.CommandContext(b.Context(), path, "-a", "127.0.0.1", "-p", port)
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	var conns []net.Conn
	b.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
		wg.Wait()
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	connect := func() (net.Conn, *bufio.Reader) {
		var c net.Conn
		for {
			var d net.Dialer
			if c, err = d.DialContext(b.Context(), "tcp", addrs[0]); err == nil {
				break
			}
			pause(b.Context(), 5*time.Millisecond)
		}
		conns = append(conns, c)
		return c, bufio.NewReader(c)
	}
	for range n {
		c, in := connect()
		natsSays(b, c, in, "SUB noop 1")
		wg.Go(func() {
			for {
				word, reply, _, err := natsHears(in)
				if err != nil {
					return
				}
				if word == "PING" {
					_, _ = io.WriteString(c, "PONG\r\n")
				}
				if word == "MSG" {
					_, _ = io.WriteString(c, "PUB "+reply+" 13\r\n{\"pong\":true}\r\n")
				}
			}
		})
	}
	c, in := connect()
	natsSays(b, c, in, "SUB inbox.* 1")
	asked := 0
	return func() error {
		asked++
		inbox := "inbox." + strconv.Itoa(asked)
		if _, err := io.WriteString(c, "PUB noop "+inbox+" 22\r\n{\"action\":\"node.ping\"}\r\n"); err != nil {
			return err
		}
		for heard := 0; heard < n; {
			word, _, subject, err := natsHears(in)
			if err != nil {
				return err
			}
			if word == "PING" {
				_, _ = io.WriteString(c, "PONG\r\n")
			}
			if word == "MSG" && subject == inbox {
				heard++
			}
		}
		return nil
	}
}

// natsSays sends a line and waits until the server has taken it.
func natsSays(b *testing.B, c net.Conn, in *bufio.Reader, line string) {
	b.Helper()
	if _, err := io.WriteString(c, "CONNECT {\"verbose\":false}\r\n"+line+"\r\nPING\r\n"); err != nil {
		b.Fatal(err)
	}
	for {
		word, _, _, err := natsHears(in)
		if err != nil {
			b.Fatal(err)
		}
		if word == "PONG" {
			return
		}
	}
}

// natsHears reads one message of NATS's text protocol: MSG subject sid [reply]
// size, and the payload on the next line.
func natsHears(in *bufio.Reader) (word, reply, subject string, err error) {
	line, err := in.ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) == 0 {
		return "", "", "", err
	}
	if fields[0] != "MSG" {
		return fields[0], "", "", nil
	}
	if subject = fields[1]; len(fields) == 5 {
		reply = fields[3]
	}
	_, err = in.ReadString('\n')
	return "MSG", reply, subject, err
}
