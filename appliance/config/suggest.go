package config

import (
	"fmt"
	"strings"
)

// suggestDistanceMax is how many letters may differ for a name to be offered.
const suggestDistanceMax = 3

// prefixBytesMin is from what length on the beginning of a name is enough.
const prefixBytesMin = 4

// didYouMean is ` (did you mean "x"?)` with the nearest of the known names, or
// nothing if none is near.
func didYouMean(got string, known []string) string {
	best, bestDistance := "", min(suggestDistanceMax, (len(got)+1)/2)+1
	for _, k := range known {
		if len(got) >= prefixBytesMin && strings.HasPrefix(k, got) {
			return fmt.Sprintf(" (did you mean %q?)", k)
		}
		if d := distance(got, k, bestDistance); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is the number of bytes to insert, remove, replace or swap to make b
// of a (optimal string alignment), or limit if it is not below it.
func distance(a, b string, limit int) int {
	if len(a) > len(b)+limit || len(b) > len(a)+limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}

// show is a raw TOML value as a fault quotes it: never long, never a secret.
func show(raw any) string {
	switch x := raw.(type) {
	case string:
		if len(x) > 60 {
			x = x[:57] + "..."
		}
		return fmt.Sprintf("%q", x)
	case int64, float64, bool:
		return fmt.Sprint(x)
	case []any, []map[string]any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "this value"
}
