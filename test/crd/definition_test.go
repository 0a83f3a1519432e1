package crd

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	k8sjson "sigs.k8s.io/json"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/viarule/viarule/internal/spec"
)

// crds are the definitions, by the kind that they define.
var crds = map[string]string{
	spec.KindRoutingPolicy:   "../../deploy/crds/viarule.io_routingpolicies.yaml",
	spec.KindExternalNetwork: "../../deploy/crds/viarule.io_externalnetworks.yaml",
	spec.KindPodNetwork:      "../../deploy/crds/viarule.io_podnetworks.yaml",
}

// definition is a custom resource definition as an API server has it.
type definition struct {
	internal apiextensions.CustomResourceDefinition
	schema   *structural.Structural
	values   schemavalidation.SchemaValidator
	cel      *cel.Validator
}

// load reads the definitions once for all tests: compiling their CEL rules takes
// longer than everything else here.
var load = sync.OnceValues(func() (map[string]*definition, error) {
	all := map[string]*definition{}
	for kind, file := range crds {
		d, err := read(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all[kind] = d
	}
	return all, nil
})

func read(file string) (*definition, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var v1 apiextensionsv1.CustomResourceDefinition
	if err := sigsyaml.UnmarshalStrict(data, &v1); err != nil {
		return nil, err
	}
	install.Install(runtime.NewScheme())
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&v1)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&v1.Spec)
	v1.Status.StoredVersions = []string{"v1alpha1"}
	d := &definition{}
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&v1, &d.internal, nil); err != nil {
		return nil, err
	}
	props := d.internal.Spec.Validation.OpenAPIV3Schema
	if d.schema, err = structural.NewStructural(props); err != nil {
		return nil, err
	}
	if d.values, _, err = schemavalidation.NewSchemaValidator(props); err != nil {
		return nil, err
	}
	d.cel = cel.NewValidator(d.schema, true, celconfig.PerCallLimit)
	return d, nil
}

func definitions(t testing.TB) map[string]*definition {
	t.Helper()
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// definitionOf is the definition of the object's kind; what is no object, or of
// no kind that there is, any of them has to refuse.
func definitionOf(t testing.TB, text []byte) *definition {
	t.Helper()
	var head struct {
		Kind string `json:"kind"`
	}
	_ = sigsyaml.Unmarshal(text, &head)
	if d := definitions(t)[head.Kind]; d != nil {
		return d
	}
	return definitions(t)[spec.KindRoutingPolicy]
}

// TestEveryDefinitionIsTested: what is generated is what is looked at here.
func TestEveryDefinitionIsTested(t *testing.T) {
	names := files(t, "../../deploy/crds/*.yaml")
	if len(names) != len(crds) {
		t.Errorf("there are %d definitions, and %d are tested", len(names), len(crds))
	}
	for kind, d := range definitions(t) {
		if d.internal.Spec.Names.Kind != kind {
			t.Errorf("%s defines %s", crds[kind], d.internal.Spec.Names.Kind)
		}
	}
}

// TestDefinitionsAreAccepted asks what the API server asks before it takes a
// definition: that it is structural, that its rules compile and that what they
// are estimated to cost is within the budget.
func TestDefinitionsAreAccepted(t *testing.T) {
	for kind, d := range definitions(t) {
		for _, err := range crdvalidation.ValidateCustomResourceDefinition(context.Background(), &d.internal) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestDefinitionsAreBounded: no list and no string without a bound, but in what is
// Kubernetes' own.
func TestDefinitionsAreBounded(t *testing.T) {
	var walk func(path string, s *structural.Structural)
	walk = func(path string, s *structural.Structural) {
		v := s.ValueValidation
		switch {
		case s.Type == "array" && (v == nil || v.MaxItems == nil):
			t.Errorf("%s: a list without maxItems", path)
		case s.Type == "string" && (v == nil || v.MaxLength == nil && len(v.Enum) == 0):
			t.Errorf("%s: a string without maxLength", path)
		case s.Type == "integer" && (v == nil || v.Minimum == nil || v.Maximum == nil):
			t.Errorf("%s: a number without bounds", path)
		}
		if s.Items != nil {
			walk(path+"[]", s.Items)
		}
		for name := range s.Properties {
			p := s.Properties[name]
			if name != "nodeSelector" {
				walk(path+"."+name, &p)
			}
		}
	}
	for kind, d := range definitions(t) {
		s := d.schema.Properties["spec"]
		walk(kind+".spec", &s)
	}
}

// validate gives what the API server would refuse the object for, created with
// strict field validation (kubectl's default).
func (d *definition) validate(text []byte) error {
	data, err := sigsyaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	// Numbers as the API server reads them: int64 where they are whole.
	var obj map[string]any
	strict, err := k8sjson.UnmarshalStrict(data, &obj)
	if err != nil || len(strict) > 0 {
		return fmt.Errorf("%v %v", err, strict)
	}
	group, version := d.internal.Spec.Group, d.internal.Spec.Versions[0].Name
	if obj["apiVersion"] != group+"/"+version || obj["kind"] != d.internal.Spec.Names.Kind {
		return fmt.Errorf("no kind %v in version %v", obj["kind"], obj["apiVersion"])
	}
	meta, _, unknown, err := objectmeta.GetObjectMetaWithOptions(obj, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		return err
	}
	if meta == nil {
		return fmt.Errorf("metadata is missing")
	}
	errs := validation.ValidateObjectMeta(meta, false, validation.NameIsDNSSubdomain, field.NewPath("metadata"))
	unknown = append(unknown, pruning.PruneWithOptions(obj, d.schema, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})...)
	if len(unknown) > 0 {
		return fmt.Errorf("unknown fields: %s", strings.Join(unknown, ", "))
	}
	defaulting.Default(obj, d.schema)
	errs = append(errs, schemavalidation.ValidateCustomResource(nil, obj, d.values)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, d.schema, obj)...)
	// The API server evaluates CEL rules only for objects of the right shape.
	if len(errs) == 0 {
		var celErrs field.ErrorList
		celErrs, _ = d.cel.Validate(context.Background(), nil, d.schema, obj, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, celErrs...)
	}
	return errs.ToAggregate()
}
