package fsm

// RunKey is the body of OpRunKey: the job that a caller's idempotency key stands
// for. What is kept is the key of the command itself.
type RunKey struct {
	Job string `json:"job"`
}

func (b RunKey) named() []string { return []string{b.Job} }

// Keyed reports whether a command with this key is remembered.
func (r *Registry) Keyed(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return key != "" && r.done.find(key) != nil
}
