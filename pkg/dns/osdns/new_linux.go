package osdns

// DefaultJournalDir is where the journal is kept unless Options say otherwise.
const DefaultJournalDir = "/var/lib/kubectl-tele"

// New looks at how this machine finds its resolvers, and changes nothing.
func New(o Options) (Configurator, error) {
	o = o.withDefaults()
	if usesResolved(o) {
		return resolved{newSystem(o, backendResolved)}, nil
	}
	return resolvConf{newSystem(o, backendResolvConf)}, nil
}
