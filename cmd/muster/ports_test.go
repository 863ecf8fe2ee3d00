package main

import (
	"net"
	"slices"
	"strconv"
	"testing"

	"muster/testdata/ports"
)

func TestPortsAreHandedOutOnceAndFromBlocksThatAreHeld(t *testing.T) {
	addrs, err := ports.Free(t.Context(), 150)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(addrs)
	if n := len(slices.Compact(slices.Clone(addrs))); n != len(addrs) {
		t.Fatalf("%d of %d differ", n, len(addrs))
	}
	for _, addr := range addrs {
		_, text, _ := net.SplitHostPort(addr)
		port, err := strconv.Atoi(text)
		if err != nil || port%100 == 99 {
			t.Fatalf("%s: %v", addr, err)
		}
		guard := net.JoinHostPort("127.0.0.1", strconv.Itoa(port/100*100+99))
		if _, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", guard); err == nil {
			t.Fatalf("another process could take the block of %s", addr)
		}
	}
}
