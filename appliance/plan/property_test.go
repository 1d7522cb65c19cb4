package plan

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tandem/appliance/config"
	"tandem/sync/carp"
)

// seeds are the documents that random ones are made of.
func seeds(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, glob := range []string{"testdata/*.toml", "../../examples/*.toml", "../config/testdata/*.toml"} {
		files, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, strings.ReplaceAll(string(text), "password_file =", "password ="))
		}
	}
	return out
}

// mustBuild holds the promise between the packages: a document without errors
// makes a plan, but for assertions that do not hold. It says whether the text
// was such a document.
func mustBuild(t *testing.T, text string) bool {
	doc, problems := config.Load(textConfig(text))
	if config.HasErrors(problems) {
		return false
	}
	p, problems := Build(doc)
	for _, problem := range problems {
		if problem.Severity == config.Error && !strings.HasPrefix(problem.Key, "assert[") {
			t.Errorf("refused late: %v\n%s", problem, text)
		}
	}
	if p == nil {
		return true
	}
	if _, err := carp.NewGroup(p.CARP, func() uint64 { return 0 }); err != nil {
		t.Errorf("refused late: %v\n%s", err, text)
	}
	p.Norms()
	p.NATText()
	if again, _ := Build(doc); len(Diff(p, again)) > 0 {
		t.Errorf("built twice, differs in %v\n%s", Diff(p, again), text)
	}
	return true
}

func FuzzBuild(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { mustBuild(t, text) })
}

// TestRandomDocumentsBuild swaps values and entries between good documents.
// Most results are refused by config; the others must build.
func TestRandomDocumentsBuild(t *testing.T) {
	value := regexp.MustCompile(`"[^"\n]*"|\b[0-9]+\b`)
	texts := seeds(t)
	var values, blocks []string
	for _, s := range texts {
		values = append(values, value.FindAllString(s, -1)...)
		blocks = append(blocks, strings.SplitAfter(s, "\n\n")...)
	}
	random := rand.New(rand.NewPCG(1, 2))
	good := 0
	for range 1500 {
		s := texts[random.IntN(len(texts))]
		for range 1 + random.IntN(3) {
			switch at := value.FindAllStringIndex(s, -1); random.IntN(4) {
			case 0:
				s += "\n" + blocks[random.IntN(len(blocks))]
			default:
				i := at[random.IntN(len(at))]
				s = s[:i[0]] + values[random.IntN(len(values))] + s[i[1]:]
			}
		}
		if mustBuild(t, s) {
			good++
		}
		if t.Failed() {
			return
		}
	}
	if good < 50 {
		t.Errorf("only %d documents were good: the test tests little", good)
	}
	t.Logf("%d good documents", good)
}
