//go:build unix

package main

import "syscall"

// inherited is as far as files are looked for that whoever started this process
// left open.
const inherited = 1024

// keepPrivate has all files that this process and its programs make be for their
// user alone, unless they say otherwise, and lets programs have none of the open
// files that this process inherited.
func keepPrivate() {
	syscall.Umask(0o077)
	for fd := 3; fd < inherited; fd++ {
		syscall.CloseOnExec(fd)
	}
}
