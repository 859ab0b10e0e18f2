package workload

import "strings"

// expand replaces $(NAME) by the value of NAME as Kubernetes does in the values
// of variables: an unknown name stays as it is written, and $$ stands for $, so
// that $$(NAME) becomes the text $(NAME).
func expand(s string, values map[string]string) string {
	var out strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(s[:i])
		rest := s[i+1:]
		switch rest[0] {
		case '$':
			out.WriteByte('$')
			s = rest[1:]
			continue
		case '(':
			if end := strings.IndexByte(rest, ')'); end > 0 {
				if value, ok := values[rest[1:end]]; ok {
					out.WriteString(value)
				} else {
					out.WriteString("$" + rest[:end+1])
				}
				s = rest[end+1:]
				continue
			}
			out.WriteString("$(")
			s = rest[1:]
			continue
		}
		out.WriteString("$" + rest[:1])
		s = rest[1:]
	}
}
