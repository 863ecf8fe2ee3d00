package actions

import "strings"

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
)

// made reports whether a text is there and consists of these characters.
func made(text, of string) bool { return text != "" && strings.TrimLeft(text, of) == "" }

// goodAction reports whether a name is lower-case words joined by ., _ or -, and
// begins with a letter.
func goodAction(name string) bool {
	if len(name) > maxName || !made(name, lower+digits+"._-") || !made(name[:1], lower) {
		return false
	}
	for i := 1; i < len(name); i++ {
		if made(name[i:i+1], "._-") && (i+1 == len(name) || made(name[i-1:i], "._-")) {
			return false
		}
	}
	return true
}

// goodField reports whether a name is lower-case letters, digits and _, and
// begins with a letter.
func goodField(name string) bool {
	return len(name) <= maxName && made(name, lower+digits+"_") && made(name[:1], lower)
}

// goodVersion reports whether a text is three numbers joined by dots, with or
// without a suffix after - or +.
func goodVersion(text string) bool {
	numbers, suffix := text, "x"
	if i := strings.IndexAny(text, "-+"); i >= 0 {
		numbers, suffix = text[:i], text[i+1:]
	}
	parts := strings.Split(numbers, ".")
	for _, part := range parts {
		if !made(part, digits) {
			return false
		}
	}
	return len(parts) == 3 && made(suffix, lower+upper+digits+".+-") && made(suffix[:1], lower+upper+digits)
}
