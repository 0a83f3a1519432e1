package spec

import "strings"

// similar gives the known word that a mistyped one stands for, or "".
func similar(word string, known []string) string {
	if len(word) > 40 {
		return ""
	}
	best, distance := "", 1+len(word)/5
	for _, k := range known {
		if strings.EqualFold(strings.NewReplacer("_", "", "-", "").Replace(word), k) {
			return k
		}
		if n := edits(strings.ToLower(word), strings.ToLower(k)); n <= distance && n < len(k) && (best == "" || n < distance) {
			best, distance = k, n
		}
	}
	return best
}

// edits counts the letters to put in, take out, change or swap with the next
// one to make b of a.
func edits(a, b string) int {
	before, row, after := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		after[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			after[j] = min(row[j]+1, after[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				after[j] = min(after[j], before[j-2]+1)
			}
		}
		before, row, after = row, after, before
	}
	return row[len(b)]
}
