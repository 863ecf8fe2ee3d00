package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"muster"
)

// joinAddrs is how many members an invitation names: one may be down.
const joinAddrs = 3

type inviteCmd struct {
	Port int `help:"HTTP port of the next node; it takes the two after it, too. Default: 7600, or, on this machine, the first free ones."`
}

// invitation is the line to type next.
type invitation struct {
	Command    string   `json:"command"`
	Join       []string `json:"join"`
	SecretFile string   `json:"secret_file"`
	Notes      []string `json:"notes"`
}

// Run prints the complete line that starts the next agent.
func (c *inviteCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	s, err := f.cluster(ctx, client)
	if err != nil {
		return err
	}
	inv, err := c.invite(ctx, s, f)
	if err != nil {
		return err
	}
	for _, note := range inv.Notes {
		_, _ = fmt.Fprintln(io.err, "#", note)
	}
	return f.show(io, inv, func(w *grid) { line(w, inv.Command) })
}

// invite writes an invitation to the cluster. Agents of one machine that listen
// there alone can be joined there alone.
func (c *inviteCmd) invite(ctx context.Context, s muster.ClusterStatus, f *clientFlags) (inv invitation, err error) {
	near := true
	for _, p := range s.Peers {
		if p.Alive && p.Gossip != "" && len(inv.Join) < joinAddrs {
			inv.Join = append(inv.Join, p.Gossip)
			near = near && isLoopback(p.Gossip)
		}
	}
	if len(inv.Join) == 0 {
		return inv, muster.Errorf(muster.Unavailable, "the node asked knows no living member's gossip address")
	}
	if near {
		return inv, inv.near(ctx, c.Port, f)
	}
	inv.far(c.Port, s, f)
	return inv, nil
}

// near is the line for this machine.
func (inv *invitation) near(ctx context.Context, port int, f *clientFlags) (err error) {
	words := []string{"muster", "agent"}
	if port == 0 {
		if port, err = freePorts(ctx); err != nil {
			return err
		}
	}
	if inv.SecretFile, err = filepath.Abs(f.secretPath()); err != nil {
		return fmt.Errorf("find the secret file: %w", err)
	}
	inv.Notes = []string{"The agents listen on this machine only. For others, start them with --bind ADDRESS and --secret-file."}
	words = append(words, "--port", strconv.Itoa(port))
	if f.SecretFile != "" {
		words = append(words, "--secret-file", quote(inv.SecretFile))
	}
	inv.Command = strings.Join(append(words, "--join", strings.Join(inv.Join, ",")), " ")
	return nil
}

// far is the line for another machine.
func (inv *invitation) far(port int, s muster.ClusterStatus, f *clientFlags) {
	if port == 0 {
		port = defaultPort
	}
	inv.SecretFile = "secret"
	inv.Notes = []string{
		"First bring the secret over, readable for its user only: scp -p " + quote(f.secretPath()) + " MACHINE:secret",
		fmt.Sprintf("The machines must reach each other at ports %d (TCP), %d (TCP and UDP) and %d (TCP).", port, port+1, port+2),
	}
	words := []string{"muster", "agent", "--bind", "0.0.0.0", "--port", strconv.Itoa(port), "--secret-file", inv.SecretFile}
	if s.Master != nil {
		if u, err := url.Parse(s.Master.URL); err == nil && u.Scheme == "http" && !isLoopback(u.Host) {
			words = append(words, "--tls", "off") // as the others
		}
	}
	inv.Command = strings.Join(append(words, "--join", strings.Join(inv.Join, ",")), " ")
}

const defaultPort = 7600

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// freePorts finds three free ports in a row on loopback.
func freePorts(ctx context.Context) (int, error) {
	for port := defaultPort; port < defaultPort+1000; port += 10 {
		if free(ctx, port) && free(ctx, port+1) && free(ctx, port+2) {
			return port, nil
		}
	}
	return 0, muster.Errorf(muster.Internal, "no three free ports from %d on", defaultPort).WithHint("give --port")
}

func free(ctx context.Context, port int) bool {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	return err == nil && ln.Close() == nil
}

// quote makes a word safe for a shell, if it is not.
func quote(word string) string {
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
