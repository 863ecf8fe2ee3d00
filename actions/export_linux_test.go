package actions

// CellsIn has an executor make control groups below a directory.
func CellsIn(e *Executor, dir string) {
	e.cells.find.Do(func() {})
	e.cells.base = dir
}

// CellsOf is where an executor makes control groups; empty for nowhere.
func CellsOf(e *Executor) string {
	e.cells.open().end(0)
	if e.cells.off.Load() {
		return ""
	}
	return e.cells.base
}
