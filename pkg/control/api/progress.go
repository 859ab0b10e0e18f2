package api

// Progress receives the events of an operation in order. It must not block for
// long. A nil Progress drops them; the methods may be called on it.
type Progress func(Event)

// Doing reports what is being done now.
func (p Progress) Doing(text string) { p.Emit(Event{Text: text}) }

// Done reports what has been done.
func (p Progress) Done(text string) { p.Emit(Event{Text: text, Done: true}) }

// Warn reports what the user should read but what stops nothing.
func (p Progress) Warn(text string) { p.Emit(Event{Text: text, Warning: true}) }

// Emit reports an event.
func (p Progress) Emit(e Event) {
	if p != nil {
		p(e)
	}
}
