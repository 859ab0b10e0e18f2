package router

import "strings"

// withoutUpgradeOffer returns the head of a request without an offer to go on with
// HTTP/2: a handler that accepts it would get all of the connection's requests.
// Apps see the offer as it was sent.
func withoutUpgradeOffer(req *request, head []byte) []byte {
	offers := false
	for token := range strings.SplitSeq(req.upgrade, ",") {
		offers = offers || strings.EqualFold(strings.Trim(token, " \t"), "h2c")
	}
	if !offers {
		return head
	}
	first, rest, _ := strings.Cut(string(head), "\r\n")
	out := []string{first}
	for line := range strings.SplitSeq(rest, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "upgrade", "http2-settings":
			continue
		case "connection":
			var kept []string
			for token := range strings.SplitSeq(value, ",") {
				token = strings.Trim(token, " \t")
				if !strings.EqualFold(token, "upgrade") && !strings.EqualFold(token, "http2-settings") {
					kept = append(kept, token)
				}
			}
			if len(kept) == 0 {
				continue
			}
			line = name + ": " + strings.Join(kept, ", ")
		}
		out = append(out, line)
	}
	return []byte(strings.Join(out, "\r\n"))
}
