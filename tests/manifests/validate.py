"""Validates manifests on standard input against the API schemas of the oldest and the newest Kubernetes that there are, and
resources of Prometheus Operator against its own definitions.

validate.py [CRD_DIRECTORY]   prints a line for each version with the number of objects that were validated; without a
directory the operator's resources are left out
"""
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml


def versions():
    """The versions whose schemas are installed, oldest first."""
    directory = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    found = {tuple(int(part) for part in path.name.lstrip("v").split("-")[0].split(".")[:2])
             for path in directory.iterdir() if path.name.startswith("v1")}
    return [f"{major}.{minor}" for major, minor in sorted(found)]


def definitions(directory):
    """Schema of a resource by its API version and kind."""
    schemas = {}
    for path in pathlib.Path(directory).glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())["spec"]
        for version in crd["versions"]:
            key = (f"{crd['group']}/{version['name']}", crd["names"]["kind"])
            schemas[key] = strict(version["schema"]["openAPIV3Schema"])
    return schemas


def strict(schema):
    """The schema without room for fields that it does not name: the API server would drop them in silence."""
    if isinstance(schema, dict):
        schema = {key: strict(value) for key, value in schema.items()}
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        if schema.get("x-kubernetes-int-or-string"):
            schema.pop("type", None)
            schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    elif isinstance(schema, list):
        schema = [strict(value) for value in schema]
    return schema


def main():
    own = definitions(sys.argv[1]) if len(sys.argv) > 1 else None
    objects = [document for document in yaml.safe_load_all(sys.stdin) if document]
    if own is None:
        own = {}
        objects = [one for one in objects if not one.get("apiVersion", "").startswith("monitoring.coreos.com/")]
    every = versions()
    for version in sorted({every[0], every[-1]}, key=every.index):
        count = 0
        for document in objects:
            name = f"{document.get('kind')} {document.get('metadata', {}).get('name')}"
            schema = own.get((document.get("apiVersion"), document.get("kind")))
            try:
                if schema is None:
                    kubernetes_validate.validate(document, version, strict=True)
                else:
                    # The metadata of a resource of its own has no schema.
                    body = {key: value for key, value in document.items() if key != "metadata"}
                    schema = {**schema, "properties": {**schema["properties"], "metadata": {}}}
                    jsonschema.Draft7Validator(schema).validate(body)
            except Exception as error:  # whatever it is, it names the object
                sys.exit(f"Kubernetes {version}: {name}: {error}")
            count += 1
        print(f"Kubernetes {version}: {count} objects")


main()
