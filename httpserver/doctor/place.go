package doctor

import (
	"fmt"
	"os"
	"runtime"

	"muster/httpserver/api"
)

// What a node needs of its disk: the request log alone may take 320 MiB.
const (
	littleSpace = 1 << 30
	noSpace     = 256 << 20
)

// place looks at the files of this node and at the disk they are on.
func (d *Doctor) place() []api.Finding {
	secret := ok("secret", "comes from the environment")
	if d.cfg.Secret != "" {
		secret = file("secret", d.cfg.Secret)
	}
	return []api.Finding{secret, file("identity", d.cfg.Identity), d.disk()}
}

// file looks at a file that only its owner may read.
func file(check, path string) api.Finding {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fail(check, err.Error(), "put it back, as readable as "+path+" was: without it the next start fails")
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return fail(check, fmt.Sprintf("%s has mode %04o: others can read it", path, info.Mode().Perm()), "chmod 600 "+path+", and replace it if somebody may have read it")
	default:
		return ok(check, path+" is the owner's alone")
	}
}

func (d *Doctor) disk() api.Finding {
	free, err := d.cfg.Free(d.cfg.Dir)
	if err != nil {
		return warn("disk", fmt.Sprintf("free space of %s: %v", d.cfg.Dir, err), "check the disk by hand")
	}
	says := fmt.Sprintf("%d MiB free for %s", free>>20, d.cfg.Dir)
	remedy := "free some, or move the data directory (--data-dir) to a larger disk"
	switch {
	case free < noSpace:
		return fail("disk", says, remedy+"; a master that cannot write its log gives up the lead")
	case free < littleSpace:
		return warn("disk", says, remedy)
	default:
		return ok("disk", says)
	}
}
