package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The repository's rules, as docs/architecture.md states them, held against
// the code. A rule that proves wrong is changed there and here together.

const (
	funcLinesMax = 70
	fileLinesMax = 600
)

// longFunctions may be longer: they are tables. The list may only shrink.
var longFunctions = map[string]bool{"TestTCPConversations": true}

// listed is what `go list -json` says about a package.
type listed struct {
	Dir, ImportPath, Name string
	GoFiles               []string
	Imports               []string
	Doc                   string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// importBlock reads the lines between ```imports and ``` of the architecture.
func importBlock(t *testing.T) map[string][]string {
	t.Helper()
	f, err := os.Open("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block, in := map[string][]string{}, false
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		switch {
		case line == "```imports":
			in = true
		case line == "```":
			in = false
		case in:
			pkg, deps, ok := strings.Cut(line, ":")
			if !ok {
				t.Fatalf("import block: %q has no colon", line)
			}
			block[pkg] = strings.Fields(deps)
		}
	}
	if len(block) == 0 {
		t.Fatal("docs/architecture.md has no import block")
	}
	return block
}

func TestImportsFollowTheArchitecture(t *testing.T) {
	block := importBlock(t)
	for _, p := range packages(t) {
		path, ok := strings.CutPrefix(p.ImportPath, "tandem/")
		if !ok {
			t.Errorf("%s: no package stands in the root", p.ImportPath)
			continue
		}
		allowed, ok := block[path]
		if !ok {
			t.Errorf("%s has no line in the import block", path)
			continue
		}
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, "tandem/"); ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s, which its line does not allow", path, ours)
			}
			if owner := thirdParty(imp); owner != "" && !regexp.MustCompile(owner).MatchString(path) {
				t.Errorf("%s imports %s, which belongs to %s", path, imp, owner)
			}
		}
	}
}

// thirdParty says which packages may import a module from outside.
func thirdParty(imp string) string {
	for _, rule := range [][2]string{
		{"gvisor.dev/", `^netstack/(host|vnet)$`},
		{"golang.zx2c4.com/", `^netstack/link/(tuntap|wireguard)$`},
		{"github.com/BurntSushi/toml", `^appliance/config$`},
		{"github.com/gaissmai/bart", `^netstack/(route|pf/rule|pf/nat)$`},
		{"github.com/spf13/", `^appliance/cli$`},
		{"github.com/vishvananda/", `^netstack/link/nic$`},
		{"github.com/google/nftables", `^netstack/link/nic$`},
		{"github.com/gopacket/", `^netstack/capture$`},
		{"golang.org/x/sys", `^(netstack/link(/.*)?|appliance/(control|node|cli)|netstack/bench)$`},
	} {
		if strings.HasPrefix(imp, rule[0]) {
			return rule[1]
		}
	}
	if strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") {
		return "no package: it is not in the list"
	}
	return ""
}

// pure packages neither do I/O nor read a clock.
var pure = regexp.MustCompile(`^(netstack/(packet|route|neigh|pf(/.*)?)|sync/(carp|pfsync|leasesync|xmlrpc)|appliance/config)$`)

var impureImports = regexp.MustCompile(`^(net|os|os/.*|syscall|log|log/slog|net/http|math/rand|math/rand/v2|crypto/rand|hash/maphash)$`)

var clockNames = regexp.MustCompile(`^(Now|Since|Until|After|AfterFunc|NewTimer|NewTicker|Tick|Sleep)$`)

func TestPurePackagesStayPure(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, "tandem/")
		if !pure.MatchString(path) {
			continue
		}
		for _, imp := range p.Imports {
			if impureImports.MatchString(imp) {
				t.Errorf("%s is pure and imports %s", path, imp)
			}
		}
		for _, name := range p.GoFiles {
			inspectPure(t, filepath.Join(p.Dir, name))
		}
	}
}

func inspectPure(t *testing.T, file string) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt, *ast.ChanType, *ast.SelectStmt, *ast.SendStmt:
			t.Errorf("%s: goroutine or channel in a pure package", fset.Position(n.Pos()))
		case *ast.SelectorExpr:
			if id, ok := n.X.(*ast.Ident); ok && id.Name == "time" && clockNames.MatchString(n.Sel.Name) {
				t.Errorf("%s: time.%s in a pure package", fset.Position(n.Pos()), n.Sel.Name)
			}
		}
		return true
	})
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && len(p.Doc) < 40 {
			t.Errorf("%s has no package comment worth the name", p.ImportPath)
		}
	}
}

// goFiles calls f for each Go file of the project.
func goFiles(t *testing.T, f func(path string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != ".." {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			f(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFunctionsAndFilesStayShort(t *testing.T) {
	goFiles(t, func(path string) {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if n := fset.Position(f.End()).Line; n > fileLinesMax {
			t.Errorf("%s has %d lines, at most %d", path, n, fileLinesMax)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > funcLinesMax && !longFunctions[fn.Name.Name] {
				t.Errorf("%s: %s has %d lines, at most %d", path, fn.Name.Name, n, funcLinesMax)
			}
			if fn.Name.Name == "init" && fn.Recv == nil {
				t.Errorf("%s: init is not used here", path)
			}
		}
	})
}

var ownerless = regexp.MustCompile(`(?i)\b(TODO|FIXME|XXX)\b[^(]`)

func TestNoLooseEnds(t *testing.T) {
	self := "tidy_test.go"
	goFiles(t, func(path string) {
		if filepath.Base(path) == self {
			return
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			if ownerless.MatchString(line) {
				t.Errorf("%s:%d: a note without an owner: %s", path, i+1, strings.TrimSpace(line))
			}
			if strings.Contains(line, `"/root/`) || strings.Contains(line, `"/home/`) {
				t.Errorf("%s:%d: a path of one machine: %s", path, i+1, strings.TrimSpace(line))
			}
		}
	})
}

// TestNoMutableGlobals holds package variables to values that nobody changes:
// errors, tables, compiled patterns.
func TestNoMutableGlobals(t *testing.T) {
	goFiles(t, func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
				for _, s := range g.Specs {
					for _, n := range s.(*ast.ValueSpec).Names {
						names[n.Name] = n.Name != "_"
					}
				}
			}
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				forbidAssigning(t, fset, fn, names)
			}
		}
	})
}

// forbidAssigning finds assignments in fn to one of the package's variables.
func forbidAssigning(t *testing.T, fset *token.FileSet, fn *ast.FuncDecl, names map[string]bool) {
	local := map[string]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, id := range n.Names {
				local[id.Name] = true
			}
		case *ast.ValueSpec:
			for _, id := range n.Names {
				local[id.Name] = true
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if id, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					local[id.Name] = true
				}
			}
		case *ast.AssignStmt:
			for _, e := range n.Lhs {
				id, ok := e.(*ast.Ident)
				switch {
				case !ok:
				case n.Tok == token.DEFINE:
					local[id.Name] = true
				case names[id.Name] && !local[id.Name]:
					t.Errorf("%s: package variable %s is assigned", fset.Position(n.Pos()), id.Name)
				}
			}
		}
		return true
	})
}
