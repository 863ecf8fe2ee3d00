package httpserver

import (
	"errors"
	"net"

	"muster"
)

// codeSlow is answered with 408: the request did not come in in time, and
// nothing was done.
const codeSlow = "slow_request"

func errSlow() error {
	return muster.Errorf(muster.Timeout, "the request did not come in in time").WithCode(codeSlow).
		WithHint("send it faster, or in smaller parts")
}

// slow reports whether reading ended because the sender took too long.
func slow(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
