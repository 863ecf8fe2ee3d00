// Package examples carries the example definitions in the program, so that the
// demo runs from wherever the program is.
package examples

import "embed"

// Files are the definitions, one file each.
//
//go:embed *.yaml
var Files embed.FS
