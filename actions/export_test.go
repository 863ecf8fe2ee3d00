package actions

// Leading is the definition with its handler's URL leading to another address, as
// a host's name may after the definition was judged.
func (d Definition) Leading(url string) Definition {
	d.Handler.URL = url
	return d
}

// Cells reports whether an executor gives programs control groups of their own.
func Cells(e *Executor) bool {
	c := e.cells.open()
	c.end(0)
	return c != nil
}
