package fsm

// dedupeWindow is how many idempotency keys are remembered.
const dedupeWindow = 10_000

// answers are the results of keyed commands, the newest dedupeWindow of them; one
// that took the place of another with its key counts beside it.
// What is kept after the last settle can be taken back. A key is forgotten with
// the entry that fills the window beyond it, however many entries are applied
// together: all copies must forget alike.
type answers struct {
	by    map[string]*done
	order []*done // oldest first; before settle some that are forgotten
	kept  uint64  // how many there ever were
	fresh int     // of order: since the last settle
}

func newAnswers() answers { return answers{by: map[string]*done{}} }

// find returns what a key stands for, or nil.
func (a *answers) find(key string) *done {
	if row := a.by[key]; row != nil && !a.forgotten(row) {
		return row
	}
	return nil
}

func (a *answers) forgotten(row *done) bool { return a.kept-row.place >= dedupeWindow }

// keep remembers a result.
func (a *answers) keep(row *done) {
	row.former, row.place = a.by[row.Key], a.kept+1
	a.kept++
	a.fresh++
	a.by[row.Key] = row
	a.order = append(a.order, row)
}

// undo takes back what was kept since the last settle.
func (a *answers) undo() {
	for ; a.fresh > 0; a.fresh-- {
		last := len(a.order) - 1
		row := a.order[last]
		if a.by[row.Key] = row.former; row.former == nil {
			delete(a.by, row.Key)
		}
		a.order[last] = nil
		a.order = a.order[:last]
		a.kept--
	}
}

// settle makes what was kept stay, and lets go of what is forgotten.
func (a *answers) settle() {
	for _, row := range a.order[len(a.order)-a.fresh:] {
		row.former = nil
	}
	a.fresh = 0
	for len(a.order) > 0 && a.forgotten(a.order[0]) {
		if row := a.order[0]; a.by[row.Key] == row {
			delete(a.by, row.Key)
		}
		a.order[0] = nil
		a.order = a.order[1:]
	}
}
