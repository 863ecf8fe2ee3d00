package actions

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// starter is how a program that runs another one reads the words before it.
type starter struct {
	value string   // letters of options whose value may be the next word
	long  []string // whole options of that kind
	words int      // words of its own before the program
}

// starterOf knows a starter by its name.
func starterOf(program string) (s starter, known bool) {
	switch programName(program) {
	case "env":
		return starter{value: "uCa", long: []string{"--unset", "--chdir", "--argv0"}}, true
	case "nice":
		return starter{value: "n", long: []string{"--adjustment"}}, true
	case "ionice":
		return starter{value: "cnpPu", long: []string{"--class", "--classdata", "--pid", "--pgid", "--uid"}}, true
	case "stdbuf":
		return starter{value: "ioe", long: []string{"--input", "--output", "--error"}}, true
	case "timeout":
		return starter{value: "ks", long: []string{"--kill-after", "--signal"}, words: 1}, true
	case "nohup", "setsid", "busybox":
		return s, true
	default:
		return s, false
	}
}

// takes reports whether the word after an option is its value.
func (s starter) takes(option string) bool {
	if strings.HasPrefix(option, "--") {
		return slices.ContainsFunc(s.long, func(long string) bool { return strings.HasPrefix(long, option) })
	}
	i := strings.IndexAny(option, s.value)
	return i > 0 && i == len(option)-1
}

// splits reports whether env makes several words of what the option says.
func splits(option string) bool {
	name, _, _ := strings.Cut(option, "=")
	long := strings.HasPrefix(option, "--")
	return long && strings.HasPrefix("--split-string", name) || !long && strings.Contains(option, "S")
}

// dialect is how an interpreter reads its options. Those of one letter may stand
// together in a word.
type dialect struct {
	text   string   // their value is run, or names the file that is
	value  string   // they have a value: the rest of the word, or the next one
	joined string   // their value, if any, is the rest of the word
	long   []string // whole options like those of text
	more   bool     // options may follow a text
	script bool     // a script may, too
	apart  bool     // letters together are all options, and their values other words
	plus   bool     // options may begin with +
}

// dialectOf knows an interpreter by its name, whatever its version.
func dialectOf(program string) (d dialect, known bool) {
	switch programName(program) {
	case "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "csh", "tcsh":
		return dialect{text: "c", value: "oO", long: []string{"--command"}, apart: true, plus: true}, true
	case "fish":
		return dialect{text: "cC", value: "pdDfo", long: []string{"--command", "--init-command"}, more: true}, true
	case "python", "pypy":
		return dialect{text: "cm", value: "WX"}, true
	case "perl":
		return dialect{text: "eE", value: "I", joined: "MmixDFV", more: true}, true
	case "ruby":
		return dialect{text: "e", value: "IrCEX", joined: "Fix", more: true}, true
	case "node", "nodejs":
		return dialect{text: "ep", value: "rC", long: []string{"--eval", "--print"}, more: true, apart: true}, true
	case "php":
		return dialect{text: "rRBEfF", value: "cdtzS", more: true, long: []string{
			"--run", "--process-begin", "--process-code", "--process-end", "--file", "--process-file",
		}}, true
	case "lua", "luajit":
		return dialect{text: "e", value: "l", joined: "jO", more: true, script: true}, true
	default:
		return d, false
	}
}

// programName is the name of a program without its version.
func programName(program string) string {
	return strings.TrimRight(strings.TrimSuffix(filepath.Base(program), ".exe"), "0123456789.-")
}

// read says of an option whether its value is run, how many of the next words are
// values for certain, whether one more may be, and what value is in its own word.
func (d dialect) read(option string) (text bool, values int, maybe bool, rest string) {
	if name, value, _ := strings.Cut(option, "="); strings.HasPrefix(option, "--") {
		plain := oneOf(option, "--", "--norc", "--noprofile", "--posix", "--login", "--no-config", "--no-warnings", "--enable-source-maps")
		text = slices.Contains(d.long, name)
		return text, 0, !text && !plain && name == option, value
	}
	for letters := option[1:]; letters != ""; {
		letter := letters[:1]
		letters = letters[1:]
		switch {
		case strings.Contains(d.text, letter):
			text = true
		case strings.Contains(d.value, letter) && (d.apart || letters == ""):
			values++
		case !strings.Contains(d.value+d.joined, letter):
			continue
		}
		if !d.apart {
			return text, values, false, letters
		}
	}
	return text, values, false, ""
}

// command is what the words of argv are to the programs among them.
type command struct {
	argv  []string
	args  []argument // of a definition; nil: the parameters are filled in
	files []part     // that are run, or may be
	unfit []int      // words with a parameter that must not have one
	input bool       // an interpreter runs its standard input

	// What an interpreter's options have said so far.
	pending bool // the text is still to come
	texted  bool // there was one
	maybe   bool // the next word may be a value
	fed     bool // standard input is to be run
}

// part is a word of argv, or the end of one, that may name a file.
type part struct {
	at   int
	path string
}

// commandOf finds the program that argv runs in the end, and the script of it.
func commandOf(argv []string, args []argument) command {
	c := command{argv: argv, args: args, files: []part{{0, argv[0]}}}
	for at := 0; at < len(argv); {
		if word := argv[at]; at > 0 && filepath.Base(word) != word {
			c.file(at, word)
		}
		c.fixed(at)
		s, starts := starterOf(argv[at])
		if !starts {
			if in, known := dialectOf(argv[at]); known {
				c.interpret(in, at)
			}
			break
		}
		at = c.started(s, at)
	}
	return c
}

// started returns where the program stands that the one at from starts.
func (c *command) started(s starter, from int) int {
	env := programName(c.argv[from]) == "env"
	for at := from + 1; at < len(c.argv); at++ {
		switch word := c.argv[at]; {
		case word == "--":
		case strings.HasPrefix(word, "-"):
			if env && splits(word) {
				for ; at < len(c.argv); at++ {
					c.fixed(at)
				}
			} else if s.takes(word) {
				at++
			}
		case env && strings.Contains(word, "="):
		case s.words > 0:
			s.words--
			c.noOption(at)
		default:
			return at
		}
	}
	return len(c.argv)
}

// interpret reads the words after an interpreter, up to its script or the first
// word that is certainly an argument of what is run. Among them no parameter may
// stand but that last one.
func (c *command) interpret(in dialect, from int) {
	c.input = true
	for at := from + 1; at < len(c.argv); at++ {
		word := c.argv[at]
		switch {
		case word == "--" && !c.pending:
			if at++; at < len(c.argv) {
				c.run(in, at)
			}
			return
		case strings.HasPrefix(word, "-") || in.plus && strings.HasPrefix(word, "+"):
			at = c.option(in, at)
		case c.maybe:
			c.maybe = false
			c.value(at, word)
		case c.pending:
			c.pending, c.texted = false, true
			c.value(at, word)
		default:
			c.noOption(at)
			c.run(in, at)
			return
		}
		if c.texted && !c.pending {
			c.input = c.fed
			if !in.more {
				return
			}
		}
	}
}

// option reads an option and the words that are its values for certain, the last
// of which it returns.
func (c *command) option(in dialect, at int) int {
	word := c.argv[at]
	text, values, maybe, rest := in.read(word)
	c.value(at, rest)
	c.maybe = maybe
	whole := rest == "" || in.more // letters of another option's value may look like a text
	c.pending, c.texted = c.pending || text && whole, c.texted || text && !whole
	c.fed = c.fed || word == "-" || in.plus && !text && !strings.HasPrefix(word, "--") && strings.Contains(word, "s")
	last := min(at+values, len(c.argv)-1)
	for i := at + 1; i <= last; i++ {
		c.value(i, c.argv[i])
	}
	return last
}

// run takes a word for the script, unless a text was instead of it.
func (c *command) run(in dialect, at int) {
	c.input = c.fed
	if !c.texted || in.script {
		c.file(at, c.argv[at])
	}
}

// value judges a word, or the end of one, that must be fixed.
func (c *command) value(at int, path string) {
	c.fixed(at)
	c.file(at, path)
}

func (c *command) file(at int, path string) { c.files = append(c.files, part{at, path}) }

// fixed says that no parameter may stand in a word.
func (c *command) fixed(at int) {
	if c.args != nil && c.args[at].param != "" {
		c.unfit = append(c.unfit, at)
	}
}

// noOption says that no parameter which may begin with - may be a word.
func (c *command) noOption(at int) {
	if c.args != nil && c.args[at].dash && c.args[at].prefix == "" {
		c.fixed(at)
	}
}

// safe judges a part that names a regular file, from the working directory.
// Of others the program itself has to say what is wrong.
func (p part) safe(cwd string, as account) error {
	path := p.path
	if !filepath.IsAbs(path) {
		if path == "" || cwd == "" {
			return nil
		}
		path = filepath.Join(cwd, path)
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil //nolint:nilerr // there is nothing to judge
	}
	return safe(path, as)
}

// judgeArgv judges what a handler runs, as far as that is known: a file may be put
// there later, and a parameter is not known yet.
func (h *Handler) judgeArgv(bad faults, at string) {
	c := commandOf(h.Argv, h.args)
	for _, file := range c.files {
		err := file.safe(h.Cwd, h.as)
		bad.check(err == nil, fmt.Sprintf("%s/argv/%d", at, file.at), "%v", err)
	}
	for _, i := range c.unfit {
		bad.check(false, fmt.Sprintf("%s/argv/%d", at, i), "a parameter must not be the text that an interpreter runs, nor stand where a program or its options are read; -- ends those")
	}
	bad.check(!c.input || h.Stdin == "", at+"/stdin", "an interpreter without a script runs what it reads")
}

// safeArgv judges what is about to run.
func (h *Handler) safeArgv(argv []string) error {
	for _, file := range commandOf(argv, nil).files {
		if err := file.safe(h.Cwd, h.as); err != nil {
			return err
		}
	}
	return nil
}
