//go:build unix

package actions

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user whom a program runs as.
type account struct {
	name, home string
	credential *syscall.Credential // nil: this process's own
}

// accountOf finds a user. Only root can run a program as somebody else, and it
// must say so when it means itself.
func accountOf(name string) (account, error) {
	self := os.Geteuid()
	if name == "" {
		if self == 0 {
			return account{}, errors.New("must be said, for this agent is root; run_as: root says that it is meant")
		}
		return own(), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("no user %s on this machine", name)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("user ID of %s: %w", name, err)
	}
	if int(uid) == self {
		return account{name: name, home: u.HomeDir}, nil
	}
	if self != 0 {
		return account{}, fmt.Errorf("only an agent that is root can run programs as %s", name)
	}
	a := account{name: name, home: u.HomeDir, credential: &syscall.Credential{Uid: uint32(uid)}}
	return a, a.groups(u)
}

// groups looks up all groups of the user: none of this process's own stay.
func (a *account) groups(u *user.User) error {
	ids, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("groups of %s: %w", a.name, err)
	}
	a.credential.Groups = make([]uint32, 0, len(ids))
	for i, id := range append([]string{u.Gid}, ids...) {
		gid, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return fmt.Errorf("groups of %s: %w", a.name, err)
		}
		if i == 0 {
			a.credential.Gid = uint32(gid)
			continue
		}
		a.credential.Groups = append(a.credential.Groups, uint32(gid))
	}
	return nil
}

// own is the account of this process.
func own() account {
	u, err := user.Current()
	if err != nil {
		return account{}
	}
	return account{name: u.Username, home: u.HomeDir}
}

// give lets the program run as the user and makes its directory the user's, who
// may pass through the one around it but cannot put another there.
func (a account) give(cmd *exec.Cmd, dir string) error {
	if a.credential == nil {
		return nil
	}
	cmd.SysProcAttr.Credential = a.credential
	around := os.Chmod(filepath.Dir(dir), 0o711) //nolint:gosec // to pass through
	return errors.Join(around, os.Chown(dir, int(a.credential.Uid), int(a.credential.Gid)))
}
