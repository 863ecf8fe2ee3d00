package gossip_test

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// silent gives an address where connecting neither succeeds nor fails: its
// queue of connections is full.
func silent(t *testing.T) string {
	t.Helper()
	ln, ok := unanswering(t).(*net.TCPListener)
	if !ok {
		t.Fatal("no TCP")
	}
	raw, err := ln.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var shrunk error
	if err := errors.Join(raw.Control(func(fd uintptr) { shrunk = syscall.Listen(int(fd), 0) }), shrunk); err != nil {
		t.Fatal(err)
	}
	for range 16 {
		conn, err := (&net.Dialer{Timeout: 300 * time.Millisecond}).DialContext(t.Context(), "tcp", ln.Addr().String())
		if errors.Is(err, os.ErrDeadlineExceeded) || err != nil {
			return ln.Addr().String()
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("this system takes more connections than it was told")
	return ""
}

func TestAnAddressThatIsSilentWhenDialedDoesNotHoldUpStopping(t *testing.T) {
	p := start(t, config(t, 1, silent(t)))
	<-time.After(200 * time.Millisecond) // nothing tells that it is dialing
	stopsSoon(t, p)
}
