package cluster_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"muster/cluster"
	"muster/cluster/trust"
)

// pipes is a listener whose connections live in memory, and so in virtual time.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) { return <-p, nil }
func (p pipes) Addr() net.Addr            { return nil }
func (p pipes) Close() error              { return nil }

// connect gives both ends of a connection, the accepted one as raft gets it.
func (p pipes) connect(t *testing.T, ln net.Listener) (near, far net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	p <- a
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(near.Close(), b.Close()) })
	return near, b
}

// accepting is a raft port in memory, and how its peers dial.
func accepting(t *testing.T) (pipes, net.Listener, func(string) *tls.Config) {
	t.Helper()
	ring, err := trust.NewRing([]trust.Secret{trust.NewSecret()})
	if err != nil {
		t.Fatal(err)
	}
	certs := trust.NewCertificates(ring, "a")
	queue := make(pipes, 1)
	return queue, cluster.Accepting(queue, certs.Mutual()), certs.Client
}

func TestAConnectionThatNeverProvesItselfIsCutAndHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue, ln, client := accepting(t)
		near, silent := queue.connect(t, ln)
		started, cut := time.Now(), make(chan time.Duration, 1)
		go func() {
			_, _ = near.Read(make([]byte, 1)) // as raft does
			cut <- time.Since(started)
		}()

		good, far := queue.connect(t, ln)
		peer := tls.Client(far, client("a"))
		sent := make(chan error, 1)
		go func() {
			_, err := peer.Write([]byte("raft"))
			sent <- err
		}()
		got := make([]byte, 4)
		if _, err := io.ReadFull(good, got); err != nil || !bytes.Equal(got, []byte("raft")) || <-sent != nil {
			t.Fatalf("a good peer: %q %v", got, err)
		}
		if time.Since(started) != 0 {
			t.Error("the silent one held up the good one")
		}
		if after := <-cut; after != 5*time.Second {
			t.Errorf("cut after %v", after)
		}
		if _, err := silent.Read(got); !errors.Is(err, io.EOF) {
			t.Errorf("the silent one is still connected: %v", err)
		}
	})
}

func TestAConnectionEndsWithTheSecretItWasMadeUnder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, fresh := trust.NewSecret(), trust.NewSecret()
		ring, err := trust.NewRing([]trust.Secret{old})
		if err != nil {
			t.Fatal(err)
		}
		queue := make(pipes, 1)
		ln, cut := cluster.AcceptingWhile(queue, trust.NewCertificates(ring, "a").Mutual(), ring.Trusts)
		connect := func(secret trust.Secret) (near net.Conn, peer *tls.Conn) {
			near, far := queue.connect(t, ln)
			theirs, err := trust.NewRing([]trust.Secret{secret})
			if err != nil {
				t.Fatal(err)
			}
			peer = tls.Client(far, trust.NewCertificates(theirs, "b").Client("a"))
			go func() { _, _ = peer.Write([]byte("x")) }()
			if _, err := near.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			return near, peer
		}
		change := func(secrets ...trust.Secret) {
			if _, err := ring.Set(secrets); err != nil {
				t.Fatal(err)
			}
			go func() { _ = cut() }()
			synctest.Wait()
		}
		first, _ := connect(old)
		change(fresh, old)
		gone := make(chan error, 1)
		go func() {
			_, err := first.Read(make([]byte, 1))
			gone <- err
		}()
		synctest.Wait()
		select {
		case err := <-gone:
			t.Fatal("cut while the old secret is understood:", err)
		default:
		}
		change(fresh)
		if err := <-gone; err == nil {
			t.Error("a connection of the old secret goes on")
		}
	})
}

func TestAProvenPeerMayStayQuietForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue, ln, client := accepting(t)
		near, far := queue.connect(t, ln)
		peer := tls.Client(far, client("a"))
		go func() {
			_, _ = peer.Write([]byte("a"))
			<-time.After(time.Hour)
			_, _ = peer.Write([]byte("b"))
		}()
		got := make([]byte, 2)
		if _, err := io.ReadFull(near, got); err != nil || string(got) != "ab" {
			t.Errorf("%q %v", got, err)
		}
	})
}
