package workload

import "strings"

// expand replaces $(NAME) by the value of NAME, in the first of the maps that has it, as
// Kubernetes does in the values of variables: an unknown name stays as it is written, and
// $$ stands for $, so that $$(NAME) becomes the text $(NAME).
func expand(s string, maps ...map[string]string) string {
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
				out.WriteString(lookUp(rest[1:end], "$"+rest[:end+1], maps))
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

// lookUp returns the value of a name in the first of the maps that has it.
func lookUp(name, otherwise string, maps []map[string]string) string {
	for _, m := range maps {
		if value, ok := m[name]; ok {
			return value
		}
	}
	return otherwise
}
