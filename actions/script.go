package actions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// dialect is how an interpreter reads its options. Those of one letter may stand
// together in a word.
type dialect struct {
	text   string   // their value is what is run
	file   string   // their value is the script
	value  string   // they have a value: the rest of the word, or the next one
	joined string   // their value, if any, is the rest of the word
	texts  []string // whole options whose value is what is run
	values []string // whole options with a value that may be the next word
	both   bool     // there may be a script besides a text
	plus   bool     // an option may begin with +
}

// dialectOf knows an interpreter by its name, whatever its version.
func dialectOf(program string) (d dialect, known bool) {
	if isShell(program) {
		return dialect{text: "c", value: "oO", texts: []string{"--command"}, values: []string{"--rcfile", "--init-file"}, plus: true}, true
	}
	switch programName(program) {
	case "python", "pypy":
		return dialect{text: "cm", value: "WX"}, true
	case "perl":
		return dialect{text: "eE", value: "I", joined: "MmixdDFV"}, true
	case "ruby":
		return dialect{text: "e", value: "IrCE", joined: "KFWTx0i"}, true
	case "node", "nodejs":
		return dialect{
			text: "ep", value: "rC", texts: []string{"--eval", "--print"},
			values: []string{"--require", "--import", "--loader", "--experimental-loader", "--conditions"},
		}, true
	case "php":
		return dialect{text: "rRBE", file: "fF", value: "cdtzS", texts: []string{"--run"}, values: []string{"--php-ini", "--define"}}, true
	case "lua", "luajit":
		return dialect{text: "e", value: "l", joined: "jO", both: true}, true
	default:
		return d, false
	}
}

// isStarter reports whether a program runs the one that its arguments name.
func isStarter(program string) bool {
	return oneOf(programName(program), "env", "nice", "ionice", "nohup", "setsid", "stdbuf", "timeout", "busybox")
}

// programName is the name of a program without its version.
func programName(program string) string {
	return strings.TrimRight(strings.TrimSuffix(filepath.Base(program), ".exe"), "0123456789.-")
}

// What a word is to an interpreter.
const (
	wordFlag   = iota // an option without a value that matters
	wordText          // its value is run
	wordFile          // its value is the script
	wordValue         // it has a value
	wordScript        // no option
)

// read says what a word is, and the value in it, if there is one.
func (d dialect) read(word string) (is int, value string) {
	letters, short := strings.CutPrefix(word, "-")
	if !short && d.plus {
		letters, short = strings.CutPrefix(word, "+")
	}
	switch {
	case !short:
		return wordScript, ""
	case strings.HasPrefix(letters, "-"):
		name, value, _ := strings.Cut(word, "=")
		switch {
		case slices.Contains(d.texts, name):
			return wordText, value
		case slices.Contains(d.values, name):
			return wordValue, value
		}
		return wordFlag, ""
	}
	for i, letter := range letters {
		rest := letters[i+len(string(letter)):]
		switch {
		case strings.ContainsRune(d.text, letter):
			return wordText, rest
		case strings.ContainsRune(d.file, letter):
			return wordFile, rest
		case strings.ContainsRune(d.value, letter):
			return wordValue, rest
		case strings.ContainsRune(d.joined, letter):
			return wordFlag, ""
		}
	}
	return wordFlag, ""
}

// script is a file that a program reads to run it.
type script struct {
	at   int // in argv
	path string
}

// scripts are the files in argv, besides its first, that are run: the program that
// another one starts, the script of an interpreter, and files that its options name.
// text is where a text stands that is run instead of a script, 0 if none does.
func scripts(argv []string, cwd string) (files []script, text int) {
	at := 0
	for isStarter(argv[at]) {
		next := started(argv[at:])
		if next == 0 {
			return files, 0
		}
		if at += next; filepath.IsAbs(argv[at]) {
			files = append(files, script{at, argv[at]})
		}
	}
	in, known := dialectOf(argv[at])
	if !known {
		return files, 0
	}
	for i := at + 1; i < len(argv); i++ {
		is, value := wordScript, argv[i]
		if argv[i-1] != "--" {
			is, value = in.read(argv[i])
		}
		switch {
		case is == wordScript:
			return append(files, of(i, argv[i], cwd)...), text
		case is == wordFlag:
			continue
		case value == "":
			if i++; i == len(argv) {
				return files, text
			}
			value = argv[i]
		}
		switch {
		case is == wordFile:
			return append(files, of(i, value, cwd)...), text
		case is == wordText:
			text = i
			if !in.both {
				return files, text
			}
		case filepath.IsAbs(value) && !isDir(value):
			files = append(files, script{i, value})
		}
	}
	return files, text
}

// started finds in argv what its first program starts: 0 if that cannot be told.
func started(argv []string) int {
	for i, word := range argv[1:] {
		_, known := dialectOf(word)
		if filepath.IsAbs(word) && !isDir(word) || known && filepath.Base(word) == word {
			return i + 1
		}
	}
	return 0
}

// of is the script that a word names: one that is not absolute stands in the
// working directory, or is no file of a known place.
func of(at int, word, cwd string) []script {
	switch {
	case filepath.IsAbs(word):
		return []script{{at, word}}
	case cwd != "" && exists(filepath.Join(cwd, word)):
		return []script{{at, filepath.Join(cwd, word)}}
	default:
		return nil
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// judgeArgv judges what a handler runs, as far as that is known: a file may be put
// there later, and a parameter is not known yet.
func (h *Handler) judgeArgv(bad faults, at string) {
	files, text := scripts(h.Argv, h.Cwd)
	for _, s := range append([]script{{0, h.Argv[0]}}, files...) {
		if strings.Contains(s.path, "${") {
			continue
		}
		err := safe(s.path)
		bad.check(err == nil || errors.Is(err, fs.ErrNotExist), fmt.Sprintf("%s/argv/%d", at, s.at), "%v", err)
	}
	if text > 0 && !isCommand(h.Argv, text) {
		bad.check(!strings.Contains(h.Argv[text], "${"), fmt.Sprintf("%s/argv/%d", at, text), "a parameter must not be the text that an interpreter runs")
	}
}

// safeArgv judges what is about to run.
func safeArgv(argv []string, cwd string) error {
	files, _ := scripts(argv, cwd)
	for _, s := range append([]script{{0, argv[0]}}, files...) {
		if err := safe(s.path); err != nil {
			return err
		}
	}
	return nil
}
