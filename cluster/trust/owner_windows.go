package trust

import "os"

// sameOwner has nothing to do: a file's rights follow from its directory.
func sameOwner(*os.File, os.FileInfo) error { return nil }
