package tun

// Routes is not there yet.
func Routes() ([]Route, error) { return nil, ErrUnsupported }
