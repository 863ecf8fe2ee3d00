package daemon

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"muster"
	"muster/actions"
	"muster/fsm"

	"github.com/hashicorp/go-sockaddr"
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

	Own []actions.Definition `kong:"-"` // actions of the program that this agent is part of, made by actions.Own

	Capabilities     []string      `help:"What this node can do." default:"search,actions" env:"MUSTER_CAPABILITIES"`
	Meta             []string      `help:"A key=value pair of metadata; repeatable." sep:"none" env:"MUSTER_META" placeholder:"K=V"`
	Actions          string        `help:"Directory of action definitions, one YAML or JSON file each." env:"MUSTER_ACTIONS" placeholder:"DIR"`
	TLS              string        `name:"tls" help:"HTTPS: auto (certificates of the cluster's own) or off. Default: off if HTTP binds and advertises loopback only, else auto." env:"MUSTER_TLS" placeholder:"auto|off"`
	TLSCert          string        `name:"tls-cert" help:"PEM file of a public certificate for HTTPS; nodes go on verifying each other by the cluster's own." env:"MUSTER_TLS_CERT" placeholder:"FILE"`
	TLSKey           string        `name:"tls-key" help:"PEM file of its key." env:"MUSTER_TLS_KEY" placeholder:"FILE"`
	OpenRegistration bool          `help:"Let those without a key register nodes, which stay inactive until an operator activates them." env:"MUSTER_OPEN_REGISTRATION"`
	TrustedProxy     []string      `help:"Network of proxies whose X-Forwarded-For is believed; repeatable." env:"MUSTER_TRUSTED_PROXY" placeholder:"CIDR"`
	Voters           int           `help:"Wanted number of raft voters: 1, 3, 5 or 7." default:"5" env:"MUSTER_VOTERS"`
	HealthInterval   time.Duration `help:"How often the master pings each external node." default:"30s" env:"MUSTER_HEALTH_INTERVAL"`
	RequestTimeout   time.Duration `help:"How long a request may take that does not say; writes take at most 10s." default:"30s" env:"MUSTER_REQUEST_TIMEOUT"`
	CacheSize        ByteSize      `help:"Memory for answers of searches, like 64MiB; 0 keeps none." default:"64MiB" env:"MUSTER_CACHE_SIZE" placeholder:"SIZE"`
	CacheTTL         time.Duration `name:"cache-ttl" help:"How long an answer is kept at most. One that a changed index makes outdated goes before." default:"15m" env:"MUSTER_CACHE_TTL"`
	MaxParallel      int           `help:"Calls of one fan-out under way at once." default:"10" env:"MUSTER_MAX_PARALLEL"`
	MetricsOpen      bool          `help:"Answer /metrics without a key." env:"MUSTER_METRICS_OPEN"`
	Profile          string        `help:"Gossip timing: lan, quick or wan." default:"lan" env:"MUSTER_PROFILE"`
	LogLevel         string        `help:"debug, info, warn or error." default:"info" env:"MUSTER_LOG_LEVEL"`
	LogFormat        string        `help:"text or json." default:"text" env:"MUSTER_LOG_FORMAT"`
}

// Complete fills what follows from other settings and checks all of them. Its
// errors are of kind Invalid and name the flag.
func (c Config) Complete() (Config, error) {
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
	for _, a := range []struct{ advertise, bound *string }{
		{&c.AdvertiseHTTP, &c.HTTP},
		{&c.AdvertiseGossip, &c.Gossip},
		{&c.AdvertiseRaft, &c.Raft},
	} {
		if *a.advertise != "" {
			continue
		}
		reachable, err := c.reachable(*a.bound)
		if err != nil {
			return c, err
		}
		*a.advertise = reachable
	}
	if c.TLS == "" && (c.TLSCert != "" || !loopback(c.HTTP, c.AdvertiseHTTP)) {
		c.TLS = tlsAuto
	}
	c.TLS = cmp.Or(c.TLS, tlsOff)
	if c.URL == "" {
		c.URL = c.scheme() + c.AdvertiseHTTP
	}
	return c, c.check()
}

// reachable is what others can use for an address that is bound: itself, or,
// bound to all addresses, this host's private one.
func (c Config) reachable(bound string) (string, error) {
	host, port, err := net.SplitHostPort(bound)
	if err != nil {
		return bound, nil //nolint:nilerr // check names the flag
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		return bound, nil //nolint:nilerr // a host name stands for itself
	}
	private, err := sockaddr.GetPrivateIP()
	if err != nil || private == "" {
		return "", flagError("advertise-http", fmt.Sprintf("bound to all addresses (%s), but this host has no private address to tell the others", bound)).
			WithHint("give --bind ADDRESS, or --advertise-http, --advertise-gossip and --advertise-raft")
	}
	return net.JoinHostPort(private, port), nil
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
		if !isHostPort(a.addr) {
			return flagError(a.flag, fmt.Sprintf("%q is not HOST:PORT with a port from 1 to 65535", a.addr))
		}
	}
	if c.Port < 1 || c.Port > 65533 {
		return flagError("port", "must be from 1 to 65533: gossip and raft take the next two")
	}
	for _, addr := range c.Join {
		if !isHostPort(addr) {
			return flagError("join", fmt.Sprintf("%q is not HOST:PORT with a port from 1 to 65535", addr))
		}
	}
	if !slices.Contains([]int{1, 3, 5, 7}, c.Voters) {
		return flagError("voters", "must be 1, 3, 5 or 7")
	}
	if c.Expect < 0 || c.Expect > 7 {
		return flagError("expect", "must be from 1 to 7")
	}
	if others := slices.DeleteFunc(slices.Clone(c.Join), func(s string) bool { return s == c.AdvertiseGossip }); c.Expect == 1 && len(others) > 0 {
		return flagError("expect", "1 founds a cluster alone, and --join enters one of others: leave out one of them")
	}
	if err := c.checkTimes(); err != nil {
		return err
	}
	if c.MaxParallel < 1 || c.MaxParallel > 1000 {
		return flagError("max-parallel", "must be from 1 to 1000")
	}
	if !slices.Contains([]string{"lan", "quick", "wan"}, c.Profile) {
		return flagError("profile", "must be lan, quick or wan")
	}
	if err := c.checkTLS(); err != nil {
		return err
	}
	if _, err := c.metadata(); err != nil {
		return err
	}
	return c.checkSelf()
}

func (c Config) checkTimes() error {
	switch {
	case c.HealthInterval < time.Second || c.HealthInterval > time.Hour:
		return flagError("health-interval", "must be from 1s to 1h")
	case c.RequestTimeout < time.Second || c.RequestTimeout > 10*time.Minute:
		return flagError("request-timeout", "must be from 1s to 10m")
	case c.CacheTTL <= 0 && c.CacheSize > 0:
		return flagError("cache-ttl", "must be above 0; --cache-size 0 turns the cache off")
	default:
		return nil
	}
}

// checkSelf checks what this node says of itself, as the registry would check
// it of an external node.
func (c Config) checkSelf() error {
	if fsm.Slug(c.Name) == "" || len(c.Name) > maxName || strings.ContainsFunc(c.Name, unicode.IsControl) {
		return flagError("name", fmt.Sprintf("needs a letter or digit, at most %d bytes and no control characters", maxName))
	}
	if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return flagError("url", fmt.Sprintf("%q is not an http or https URL without user, query and fragment", c.URL))
	}
	if _, err := c.trusted(); err != nil {
		return err
	}
	for _, capability := range c.Capabilities {
		if !muster.Capability(capability).Valid() {
			return flagError("capabilities", fmt.Sprintf("%q is not lower-case letters, digits and dashes", capability))
		}
	}
	return nil
}

// maxName is how long a node's name may be, as gossip carries it.
const maxName = 63

func isHostPort(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	n, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && bad == nil && n > 0
}

// The values of --tls.
const (
	tlsAuto = "auto"
	tlsOff  = "off"
)

func (c Config) checkTLS() error {
	switch {
	case c.TLS != tlsAuto && c.TLS != tlsOff:
		return flagError("tls", "must be auto or off")
	case c.TLSCert == "" && c.TLSKey != "":
		return flagError("tls-key", "needs --tls-cert, too")
	case c.TLSCert != "" && c.TLSKey == "":
		return flagError("tls-cert", "needs --tls-key, too")
	case c.TLSCert != "" && c.TLS == tlsOff:
		return flagError("tls-cert", "is of no use with --tls off: leave out one of them")
	default:
		return nil
	}
}

// scheme is how the base URL of this node's HTTP begins.
func (c Config) scheme() string {
	if c.TLS == tlsAuto {
		return "https://"
	}
	return "http://"
}

// loopback reports whether nothing is bound or advertised beyond this machine.
func (c Config) loopback() bool {
	return loopback(c.HTTP, c.Gossip, c.Raft, c.AdvertiseHTTP, c.AdvertiseGossip, c.AdvertiseRaft)
}

func loopback(addrs ...string) bool {
	for _, addr := range addrs {
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
