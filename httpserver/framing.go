package httpserver

import (
	"bytes"

	"muster"

	"github.com/valyala/fasthttp"
)

// framed refuses a request that programs on its way may have understood in
// another way than this one does, where it begins and ends above all: length
// and chunks at once, a header of several lines (RFC 9112, 6.1 and 5.2), or two
// words about who asks. The library refuses the rest: NUL, repeated lengths,
// codings it does not know, space before a colon.
func framed(h *fasthttp.RequestHeader) error {
	seen := map[string]bool{}
	for line := range bytes.Lines(h.RawHeaders()) {
		if line[0] == ' ' || line[0] == '\t' {
			return unclear("a header goes on in a second line")
		}
		name, _, _ := bytes.Cut(line, []byte(":"))
		for _, single := range []string{fasthttp.HeaderContentLength, fasthttp.HeaderTransferEncoding, fasthttp.HeaderAuthorization} {
			if !bytes.EqualFold(name, []byte(single)) {
				continue
			}
			if seen[single] {
				return unclear(single + " is there twice")
			}
			seen[single] = true
		}
	}
	if seen[fasthttp.HeaderContentLength] && seen[fasthttp.HeaderTransferEncoding] {
		return unclear("it has both Content-Length and Transfer-Encoding")
	}
	return nil
}

func unclear(why string) error {
	return muster.Errorf(muster.Malformed, "the request is not clear: %s", why).WithCode("unclear_request")
}
