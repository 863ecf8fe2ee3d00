package httpserver

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const maxURL = 2048

// badURL says what is wrong with the base URL of a node, if anything is. What
// muster calls must be an application, not the machine's own surroundings.
func badURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || len(text) > maxURL:
		return "must be an absolute http or https URL"
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "must be an absolute http or https URL"
	case u.User != nil:
		return "must hold no user or password"
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return "must have no query and no fragment"
	case u.Port() != "" && !goodPort(u.Port()) || strings.HasSuffix(u.Host, ":"):
		return "must have a port from 1 to 65535"
	case !goodHost(u.Hostname()):
		return "must not be an unspecified, link-local or metadata address"
	default:
		return ""
	}
}

func goodPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

// goodHost refuses addresses at which no application can be, and those at
// which clouds tell machines their secrets.
func goodHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if slices.Contains([]string{"metadata.google.internal", "metadata.goog"}, host) {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if old, ok := oldIPv4(host); ok {
		ip, err = old, nil
	}
	if err != nil {
		return host != ""
	}
	ip = inner(ip.WithZone("").Unmap())
	metadata := []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200")}
	return !ip.IsUnspecified() && !ip.IsLinkLocalUnicast() && !slices.Contains(metadata, ip)
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
