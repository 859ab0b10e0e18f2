package control

// checkPrivate has nothing to check: the cache folder of a Windows user is
// private by its ACL.
func checkPrivate(string) error { return nil }
