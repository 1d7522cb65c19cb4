package packet

import "encoding/hex"

// String writes the address as "00:00:5e:00:01:c8".
func (m MAC) String() string {
	out := make([]byte, 0, 17)
	for i := range m {
		if i > 0 {
			out = append(out, ':')
		}
		out = hex.AppendEncode(out, m[i:i+1])
	}
	return string(out)
}
