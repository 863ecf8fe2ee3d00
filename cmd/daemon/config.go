package daemon

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"muster"
)

// Config is everything an agent can be told. The tags are kong's: each field
// is a flag, a MUSTER_ variable and a key of the configuration file.
type Config struct {
	Name            string   `help:"Name of this node, unique in the cluster. Default: the host's name." env:"MUSTER_NAME"`
	DataDir         string   `help:"Where the node keeps its identity, log and index. Default: ./muster-data/NAME." env:"MUSTER_DATA_DIR" placeholder:"DIR"`
	Bind            string   `help:"Address to listen on." default:"127.0.0.1" env:"MUSTER_BIND"`
	Port            int      `help:"HTTP port; gossip is the next one, raft the one after." default:"7600" env:"MUSTER_PORT"`
	HTTP            string   `name:"http" help:"HOST:PORT for HTTP, instead of --bind and --port." env:"MUSTER_HTTP" placeholder:"HOST:PORT"`
	Gossip          string   `help:"HOST:PORT for gossip." env:"MUSTER_GOSSIP" placeholder:"HOST:PORT"`
	Raft            string   `help:"HOST:PORT for raft." env:"MUSTER_RAFT" placeholder:"HOST:PORT"`
	AdvertiseHTTP   string   `name:"advertise-http" help:"HTTP address that others use." env:"MUSTER_ADVERTISE_HTTP" placeholder:"HOST:PORT"`
	AdvertiseGossip string   `help:"Gossip address that others use." env:"MUSTER_ADVERTISE_GOSSIP" placeholder:"HOST:PORT"`
	AdvertiseRaft   string   `help:"Raft address that others use." env:"MUSTER_ADVERTISE_RAFT" placeholder:"HOST:PORT"`
	URL             string   `name:"url" help:"Base URL that others use for this node." env:"MUSTER_URL"`
	Join            []string `help:"Gossip address of a member; repeat it, or separate by commas." env:"MUSTER_JOIN" placeholder:"HOST:PORT"`
	Expect          int      `help:"Found the cluster once this many agents with the same --expect see each other." env:"MUSTER_EXPECT"`
	SecretFile      string   `kong:"-"` // --secret-file, which clients have, too
	Capabilities    []string `help:"What this node can do." default:"search,actions" env:"MUSTER_CAPABILITIES"`
	Meta            []string `help:"A key=value pair of metadata; repeatable." sep:"none" env:"MUSTER_META" placeholder:"K=V"`
	TLS             string   `name:"tls" help:"HTTPS between nodes: auto or off. Only off exists yet; beyond loopback it must be written out." env:"MUSTER_TLS" placeholder:"off"`
	Voters          int      `help:"Wanted number of raft voters: 1, 3, 5 or 7." default:"5" env:"MUSTER_VOTERS"`
	MaxParallel     int      `help:"Calls of one fan-out under way at once." default:"10" env:"MUSTER_MAX_PARALLEL"`
	Profile         string   `help:"Gossip timing: lan, quick or wan." default:"lan" env:"MUSTER_PROFILE"`
	LogLevel        string   `help:"debug, info, warn or error." default:"info" env:"MUSTER_LOG_LEVEL"`
	LogFormat       string   `help:"text or json." default:"text" env:"MUSTER_LOG_FORMAT"`
}

// complete fills what follows from other settings and checks all of them. Its
// errors are of kind Invalid and name the flag.
func (c Config) complete() (Config, error) {
	host := c.Bind
	for i, addr := range []*string{&c.HTTP, &c.Gossip, &c.Raft} {
		if *addr == "" {
			*addr = net.JoinHostPort(host, strconv.Itoa(c.Port+i))
		}
	}
	c.Join = slices.DeleteFunc(slices.Clone(c.Join), func(s string) bool { return strings.TrimSpace(s) == "" })
	if c.Name == "" {
		name, err := os.Hostname()
		if err != nil || name == "" {
			return c, flagError("name", "the host has no name: give one")
		}
		c.Name = name
	}
	if c.DataDir == "" {
		c.DataDir = filepath.Join("muster-data", c.Name)
	}
	if c.AdvertiseHTTP == "" {
		c.AdvertiseHTTP = c.HTTP
	}
	if c.AdvertiseRaft == "" {
		c.AdvertiseRaft = c.Raft
	}
	if c.URL == "" {
		c.URL = "http://" + c.AdvertiseHTTP
	}
	return c, c.check()
}

func (c Config) check() error {
	for _, a := range []struct{ flag, addr string }{
		{"http", c.HTTP},
		{"gossip", c.Gossip},
		{"raft", c.Raft},
		{"advertise-http", c.AdvertiseHTTP},
		{"advertise-gossip", c.AdvertiseGossip},
		{"advertise-raft", c.AdvertiseRaft},
	} {
		if a.addr == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(a.addr); err != nil || port == "" {
			return flagError(a.flag, fmt.Sprintf("%q is not HOST:PORT", a.addr))
		}
	}
	for _, addr := range c.Join {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return flagError("join", fmt.Sprintf("%q is not HOST:PORT", addr))
		}
	}
	if !slices.Contains([]int{1, 3, 5, 7}, c.Voters) {
		return flagError("voters", "must be 1, 3, 5 or 7")
	}
	if c.Expect < 0 || c.Expect > 7 {
		return flagError("expect", "must be from 1 to 7")
	}
	if c.MaxParallel < 1 || c.MaxParallel > 1000 {
		return flagError("max-parallel", "must be from 1 to 1000")
	}
	if !slices.Contains([]string{"lan", "quick", "wan"}, c.Profile) {
		return flagError("profile", "must be lan, quick or wan")
	}
	if !slices.Contains([]string{"", "off"}, c.TLS) {
		return flagError("tls", "only off is supported yet")
	}
	if c.TLS == "" && !c.loopback() {
		return flagError("tls", "calls between nodes are not encrypted yet: write --tls off to bind or advertise beyond loopback all the same")
	}
	_, err := c.metadata()
	return err
}

// loopback reports whether nothing is bound or advertised beyond this machine.
func (c Config) loopback() bool {
	for _, addr := range []string{c.HTTP, c.Gossip, c.Raft, c.AdvertiseHTTP, c.AdvertiseGossip, c.AdvertiseRaft} {
		if addr == "" {
			continue
		}
		host, _, _ := net.SplitHostPort(addr)
		ip, err := netip.ParseAddr(host)
		if host != "localhost" && (err != nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

func (c Config) metadata() (muster.Metadata, error) {
	m := muster.Metadata{}
	for _, pair := range c.Meta {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, flagError("meta", fmt.Sprintf("%q is not KEY=VALUE", pair))
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, flagError("meta", err.Error())
		}
		m[k] = raw
	}
	return m, nil
}

func flagError(flag, reason string) *muster.Error {
	return &muster.Error{
		Kind: muster.Invalid, Message: "--" + flag + ": " + reason,
		Fields: map[string][]string{flag: {reason}}, Hint: "see muster agent --help",
	}
}
