package httpserver

import (
	"net/url"
	"strconv"
	"strings"

	"muster/httpserver/api"
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
	case !api.GoodHost(u.Hostname()):
		return "must not be an unspecified, link-local or metadata address"
	default:
		return ""
	}
}

func goodPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

// distant checks the URL of an application where nodes are on several machines.
func (c complaints) distant(are bool, text *string) {
	c.when(are && text != nil && loopbackURL(*text), "url", "must not lead to loopback: this node and the others are reached from other machines")
}

// loopbackURL reports whether a good URL leads to the machine that calls it.
func loopbackURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	ip, ok := api.Literal(host)
	return ok && ip.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
