package router

import (
	"slices"
	"strings"
)

// withoutUpgradeOffer returns the head of a request without an offer to go on with
// HTTP/2: a handler that accepts it would get all of the connection's requests.
// Apps see the offer as it was sent.
func withoutUpgradeOffer(req *request, head []byte) []byte {
	offers, others := false, 0
	for token := range strings.SplitSeq(req.upgrade, ",") {
		if strings.EqualFold(strings.Trim(token, " \t"), "h2c") {
			offers = true
		} else {
			others++
		}
	}
	if !offers {
		return head
	}
	first, rest, _ := strings.Cut(string(head), "\r\n")
	out := []string{first}
	for line := range strings.SplitSeq(rest, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "http2-settings":
			continue
		case "upgrade":
			if line = without(name, value, "h2c"); line == "" {
				continue
			}
		case "connection":
			dropped := []string{"http2-settings"}
			if others == 0 {
				dropped = append(dropped, "upgrade")
			}
			if line = without(name, value, dropped...); line == "" {
				continue
			}
		}
		out = append(out, line)
	}
	return []byte(strings.Join(out, "\r\n"))
}

// without returns the line of a field without some members of its list, "" if there is
// no other.
func without(name, value string, dropped ...string) string {
	var kept []string
	for token := range strings.SplitSeq(value, ",") {
		token = strings.Trim(token, " \t")
		if !slices.ContainsFunc(dropped, func(d string) bool { return strings.EqualFold(d, token) }) {
			kept = append(kept, token)
		}
	}
	if len(kept) == 0 {
		return ""
	}
	return name + ": " + strings.Join(kept, ", ")
}
