package osdns

// DefaultJournalDir is where the journal is kept unless Options say otherwise.
const DefaultJournalDir = "/var/db/kubectl-tele"

// New changes nothing.
func New(o Options) (Configurator, error) {
	return resolverDir{newSystem(o.withDefaults(), backendResolverDir)}, nil
}
