package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"muster"

	"github.com/hashicorp/memberlist"
)

const (
	leaveTimeout = time.Second
	reclaimAfter = time.Second
	lookupTime   = 5 * time.Second
	everywhere   = "0.0.0.0"
)

// settings turns the configuration into memberlist's. It opens nothing.
func (p *Pool) settings(ctx context.Context) (*memberlist.Config, error) {
	conf := profile(p.cfg.Profile)
	if err := p.cfg.Facts.check(); err != nil {
		return nil, err
	}
	if err := p.cfg.place(ctx, conf); err != nil {
		return nil, err
	}
	if len(p.cfg.Keys) == 0 {
		return nil, muster.Errorf(muster.Invalid, "gossip has no key")
	}
	var err error
	if conf.Keyring, err = memberlist.NewKeyring(p.cfg.Keys, p.cfg.Keys[0]); err != nil {
		return nil, muster.Errorf(muster.Invalid, "gossip keys: %w", err)
	}
	p.ring = conf.Keyring
	conf.Name, conf.DeadNodeReclaimTime = p.cfg.ID, reclaimAfter
	d := &delegate{pool: p}
	conf.Delegate, conf.Events, conf.Merge, conf.Alive, conf.Ping = d, d, d, d, d
	conf.LogOutput, conf.Logger = nil, newLibraryLog(p.log)
	return conf, nil
}

func profile(name string) *memberlist.Config {
	conf := memberlist.DefaultLANConfig()
	switch name {
	case "quick":
		conf.ProbeInterval, conf.ProbeTimeout = 500*time.Millisecond, 250*time.Millisecond
		conf.GossipInterval, conf.SuspicionMult, conf.TCPTimeout = 100*time.Millisecond, 4, 5*time.Second
	case "wan":
		conf = memberlist.DefaultWANConfig()
	}
	return conf
}

// place says where to listen and what to tell others. memberlist would listen
// everywhere on what is not an IP address.
func (c Config) place(ctx context.Context, conf *memberlist.Config) (err error) {
	if conf.BindAddr, conf.BindPort, err = resolve(ctx, "gossip", c.Bind); err != nil {
		return err
	}
	conf.AdvertisePort = conf.BindPort
	if c.Advertise == "" {
		return nil
	}
	conf.AdvertiseAddr, conf.AdvertisePort, err = resolve(ctx, "advertise-gossip", c.Advertise)
	if err != nil || !net.ParseIP(conf.AdvertiseAddr).IsUnspecified() {
		return err
	}
	if conf.BindAddr != everywhere {
		return flagError("advertise-gossip", conf.AdvertiseAddr+" is no address that others can use: give one", nil)
	}
	conf.AdvertiseAddr = "" // memberlist takes the machine's private address
	return nil
}

// resolve takes HOST:PORT apart and looks up a host that is a name; of several
// addresses it takes an IPv4 one if there is any.
func resolve(ctx context.Context, flag, addr string) (ip string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	number, bad := strconv.ParseUint(text, 10, 16)
	if err = errors.Join(err, bad); err != nil {
		return "", 0, flagError(flag, fmt.Sprintf("%q is not HOST:PORT", addr), err)
	}
	switch {
	case host == "":
		host = everywhere
	case host == "localhost":
		host = "127.0.0.1"
	case net.ParseIP(host) == nil:
		host, err = lookup(ctx, host)
	}
	if err != nil {
		return "", 0, flagError(flag, fmt.Sprintf("%q is no IP address, and no name that leads to one", addr), err)
	}
	return host, int(number), nil
}

func lookup(ctx context.Context, host string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", err
	}
	ips = slices.DeleteFunc(ips, func(ip netip.Addr) bool { return ip.Zone() != "" }) // not for memberlist
	if len(ips) == 0 {
		return "", errors.New("no address")
	}
	best := max(0, slices.IndexFunc(ips, func(ip netip.Addr) bool { return ip.Unmap().Is4() }))
	return ips[best].Unmap().String(), nil
}

func flagError(flag, reason string, cause error) *muster.Error {
	return &muster.Error{
		Kind: muster.Invalid, Message: "--" + flag + ": " + reason, Fields: map[string][]string{flag: {reason}}, Err: cause,
		Hint: "what is not given follows from --bind and --port; see muster agent --help",
	}
}
