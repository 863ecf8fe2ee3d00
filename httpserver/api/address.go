package api

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"muster"
)

// GoodHost refuses hosts at which no application can be, and those at which
// clouds tell machines their secrets. What a name stands for, only Guard sees.
func GoodHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if slices.Contains([]string{"metadata.google.internal", "metadata.goog"}, host) {
		return false
	}
	ip, ok := Literal(host)
	return ok && goodIP(ip) || !ok && host != ""
}

// Literal is the address that a host spells out, in any way that resolvers read,
// without its zone; ok is false for a name.
func Literal(host string) (ip netip.Addr, ok bool) {
	if old, ok := oldIPv4(host); ok {
		return old, true
	}
	ip, err := netip.ParseAddr(host)
	return plain(ip), err == nil
}

// plain is the address that is meant: IPv4 if it is one in IPv6's clothes.
func plain(ip netip.Addr) netip.Addr { return inner(ip.WithZone("").Unmap()) }

func goodIP(ip netip.Addr) bool {
	metadata := []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200")}
	return !ip.IsUnspecified() && !ip.IsLinkLocalUnicast() && !ip.IsMulticast() &&
		ip != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && !slices.Contains(metadata, ip)
}

// Guard judges the addresses at which applications are called, as they are
// dialled: by then a name stands for one address and cannot change its mind.
type Guard struct {
	Loopback bool // this agent itself is on loopback, so applications may be
}

const dialTime = 2 * time.Second

// Dialer opens connections to permitted addresses only.
func (g Guard) Dialer() *net.Dialer {
	return &net.Dialer{Timeout: dialTime, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !g.permits(at.Addr()) {
			return muster.Errorf(muster.Forbidden, "address %s is not called", address).WithCode(codeBadAddress).
				WithHint("link-local, metadata and unspecified addresses are never called, loopback only by an agent that is on loopback itself")
		}
		return nil
	}}
}

func (g Guard) permits(ip netip.Addr) bool {
	ip = plain(ip)
	return goodIP(ip) && (g.Loopback || !ip.IsLoopback())
}

// inner is the IPv4 address that a NAT64 address leads to (RFC 6052, 2.1), or
// ip itself.
func inner(ip netip.Addr) netip.Addr {
	if !netip.MustParsePrefix("64:ff9b::/96").Contains(ip) {
		return ip
	}
	raw := ip.As16()
	return netip.AddrFrom4([4]byte(raw[12:]))
}

// oldIPv4 reads the spellings of IPv4 addresses that inet_aton(3) knows: one to
// four numbers, decimal, octal or hexadecimal, of which the last fills what is
// left. Resolvers take them for addresses, so a check must, too.
func oldIPv4(host string) (netip.Addr, bool) {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var sum uint64
	for i, part := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts))
		}
		n, ok := number(part, bits)
		if !ok {
			return netip.Addr{}, false
		}
		sum = sum<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}), true
}

func number(text string, bits int) (uint64, bool) {
	base := 10
	if digits, hex := strings.CutPrefix(text, "0x"); hex {
		text, base = digits, 16
	} else if len(text) > 1 && text[0] == '0' {
		base = 8
	}
	n, err := strconv.ParseUint(text, base, bits)
	return n, err == nil
}
