package actions

import "strings"

// isShell reports whether a program runs text that it is given after -c.
func isShell(program string) bool {
	return oneOf(programName(program), "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh")
}

// isCommand reports whether argv[i] is what a shell in argv runs: the first word
// after -c that is no option.
func isCommand(argv []string, i int) bool {
	shell := false
	for at, word := range argv[:i] {
		switch {
		case isShell(word):
			shell = true
		case shell && strings.HasPrefix(word, "-"):
			if !strings.HasPrefix(word, "--") && strings.Contains(word, "c") {
				return onlyOptions(argv[at+1 : i])
			}
		case shell && !strings.HasPrefix(argv[at-1], "-"):
			return false // a script: what follows are its arguments
		}
	}
	return false
}

func onlyOptions(words []string) bool {
	for _, word := range words {
		if !strings.HasPrefix(word, "-") {
			return false
		}
	}
	return true
}
