//! A pod of deploy/, as `kubectl kustomize` renders it: its containers as flags of podman, or the whole for `podman kube play`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize as _;
use serde_yaml::Value;

use super::podman::{root, succeed};
use super::support::{Bed, installed, text};

/// What a directory of deploy/ makes: the pod of its only workload of a kind, and the `ConfigMap`s that it mounts.
pub fn render(overlay: &str, kind: &str) -> Manifest {
    let mut kubectl = Command::new(installed("containers/python/bin/kubectl"));
    let rendered = text(&succeed(kubectl.arg("kustomize").arg(root().join(overlay))).stdout);
    let documents = serde_yaml::Deserializer::from_str(&rendered);
    let objects: Vec<Value> = documents.map(|one| Value::deserialize(one).unwrap()).collect();
    let of_kind = |kind: &str| -> Vec<Value> {
        objects.iter().filter(|object| object["kind"] == kind).cloned().collect()
    };
    let workloads = of_kind(kind);
    assert_eq!(workloads.len(), 1, "{overlay}: {kind}");
    Manifest { pod: workloads[0]["spec"]["template"].clone(), maps: of_kind("ConfigMap") }
}

pub struct Manifest {
    pub pod: Value,
    pub maps: Vec<Value>,
}

impl Manifest {
    pub fn container(&mut self, name: &str) -> &mut Value {
        let containers = self.pod["spec"]["containers"].as_sequence_mut().unwrap();
        containers.iter_mut().find(|container| container["name"] == name).unwrap()
    }

    /// Replaces a file of the `ConfigMap`s.
    pub fn replace_file(&mut self, name: &str, content: &str) {
        let files = self.maps.iter_mut().filter_map(|map| map["data"].get_mut(name));
        assert_eq!(files.map(|file| *file = content.into()).count(), 1, "{name}");
    }

    /// One container as flags of `podman run`, and its arguments. What it mounts is made where it is missing.
    pub fn flags(&self, bed: &Bed, name: &str) -> (Vec<String>, Vec<String>) {
        let spec = &self.pod["spec"];
        let containers = spec["containers"].as_sequence().unwrap();
        let container = containers.iter().find(|container| container["name"] == name).unwrap();
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        // podman's own file systems in a read-only root are none that the kubelet makes.
        let mut flags = vec!["--read-only".into(), "--read-only-tmpfs=false".into()];
        flags.push("--security-opt=no-new-privileges".into());
        for (key, flag) in [("hostPID", "--pid=host"), ("hostNetwork", "--network=host")] {
            flags.extend((spec[key] == true).then(|| flag.to_owned()));
        }
        let user = &spec["securityContext"];
        let id = |key: &str| user[key].as_u64().unwrap();
        flags.push(format!("--user={}:{}", id("runAsUser"), id("runAsGroup")));
        for (key, flag) in [("drop", "--cap-drop"), ("add", "--cap-add")] {
            for right in strings(&context["capabilities"][key]) {
                flags.push(format!("{flag}={right}"));
            }
        }
        for mount in container["volumeMounts"].as_sequence().unwrap() {
            let volumes = spec["volumes"].as_sequence().unwrap();
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            let to = mount["mountPath"].as_str().unwrap();
            let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
            flags.push(format!("--volume={}:{to}:{mode}", self.source(bed, volume)));
        }
        (flags, strings(&container["args"]))
    }

    fn source(&self, bed: &Bed, volume: &Value) -> String {
        if let Some(path) = volume["hostPath"]["path"].as_str() {
            if volume["hostPath"]["type"] == "DirectoryOrCreate" {
                bed.shell(&format!("mkdir -p -m 755 {path}"));
            }
            return path.to_owned();
        }
        let name = &volume["configMap"]["name"];
        let map = self.maps.iter().find(|map| map["metadata"]["name"] == *name).unwrap();
        let place = bed.directory().join(name.as_str().unwrap());
        fs::create_dir_all(&place).unwrap();
        for (file, content) in map["data"].as_mapping().unwrap() {
            fs::write(place.join(file.as_str().unwrap()), content.as_str().unwrap()).unwrap();
        }
        place.display().to_string()
    }

    /// The pod and its `ConfigMap`s, as `podman kube play` reads them.
    pub fn documents(&self, name: &str) -> String {
        let mut pod = self.pod.clone();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["name"] = name.into();
        let objects = self.maps.iter().chain([&pod]);
        let texts: Vec<_> = objects.map(|object| serde_yaml::to_string(object).unwrap()).collect();
        texts.join("---\n")
    }

    /// Gives an `emptyDir` a directory of the bed: podman 4.3 knows no such volume. It is a file system of its own that
    /// all may write to, as the kubelet makes it.
    pub fn replace_empty_directory(&mut self, bed: &Bed, name: &str) -> String {
        let volumes = self.pod["spec"]["volumes"].as_sequence_mut().unwrap();
        let volume = volumes.iter_mut().find(|volume| volume["name"] == name).unwrap();
        assert!(volume.as_mapping_mut().unwrap().remove("emptyDir").is_some(), "{name}");
        let place = bed.directory().join(name);
        make_empty_directory(bed, &place);
        let path = place.display().to_string();
        volume["hostPath"] =
            serde_yaml::from_str(&format!("{{path: {path}, type: Directory}}")).unwrap();
        path
    }
}

fn make_empty_directory(bed: &Bed, place: &Path) {
    let place = place.display();
    bed.shell(&format!("mkdir {place} && mount -t tmpfs -o mode=777 none {place}"));
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_sequence().into_iter().flatten();
    list.map(|one| one.as_str().unwrap().to_owned()).collect()
}
