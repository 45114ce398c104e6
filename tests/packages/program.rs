//! The programs in the packages: how they are linked, and what they need of a C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::{copy_sources, files, pack, packages, program_of_deb};
use super::contents::said;
use super::machine;
use super::support::tool;

const NAME: &str = "haproxy-host-exporter";

/// A new folder for what one test unpacks.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The program of an archive, unpacked in a folder.
fn program_of_archive(archive: &Path, folder: &Path) -> PathBuf {
    let mut tar = Command::new(tool("tar"));
    said(tar.arg("-xzf").arg(archive).arg("-C").arg(folder).arg("--strip-components=1"));
    folder.join(NAME)
}

/// What `readelf` says of a program.
fn read_elf(what: &str, program: &Path) -> String {
    said(Command::new(tool("readelf")).args(["--wide", what]).arg(program).env("LC_ALL", "C"))
}

/// Whether the kernel starts it by a dynamic linker, which loads the libraries.
fn is_dynamic(program: &Path) -> bool {
    let headers = read_elf("--program-headers", program);
    assert!(headers.contains("LOAD"), "{}: no program: {headers}", program.display());
    headers.contains("INTERP") || read_elf("--dynamic", program).contains("(NEEDED)")
}

/// The highest version of a symbol of the C library in a text, as minor numbers: 2.34 is 34.
fn highest_glibc(text: &str) -> Option<u32> {
    let versions = text.split("GLIBC_2.").skip(1);
    let minors = versions.map(|rest| rest.split(|end: char| !end.is_ascii_digit()).next().unwrap());
    minors.filter_map(|minor| minor.parse().ok()).max()
}

/// A test that packs cargo's program has a dynamic one in the archive, too, because cargo builds it for this host.
#[test]
fn the_program_of_the_archive_needs_no_library() {
    let folder = folder("archive");
    let program = program_of_archive(&packages().file(".tar.gz"), &folder);
    let size = fs::metadata(&program).unwrap().len();
    println!("{}: {size} bytes, dynamic: {}", program.display(), is_dynamic(&program));
    assert!(!packages().released || !is_dynamic(&program), "{}", program.display());
    let deb = program_of_deb(&packages().file(".deb"), &folder.join("deb"));
    println!("{}: {} bytes", deb.display(), fs::metadata(&deb).unwrap().len());
    for program in [&program, &deb] {
        let version = said(Command::new(program).arg("--version"));
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    }
}

/// The packages for the other processor are looked at when they are there.
#[test]
fn the_programs_for_arm64_run() {
    let folder = folder("arm64");
    let directory = &packages().directory;
    let mut programs = Vec::new();
    for deb in files(directory, "_arm64.deb") {
        programs.push((program_of_deb(&deb, &folder.join("deb")), true));
    }
    for archive in files(directory, "-linux-arm64.tar.gz") {
        programs.push((program_of_archive(&archive, &folder), false));
    }
    println!("{} programs for arm64", programs.len());
    for (program, dynamic) in programs {
        assert_eq!(is_dynamic(&program), dynamic, "{}", program.display());
        assert!(read_elf("--file-header", &program).contains("AArch64"), "{}", program.display());
        let mut qemu = Command::new(tool("qemu-aarch64-static"));
        let version =
            said(qemu.args(["-L", "/usr/aarch64-linux-gnu"]).arg(&program).arg("--version"));
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{}: {version}", program.display());
    }
}

/// The C library that the page names is the one that the program needs, and the one that the package requires. Only
/// what is released says so: Rust's own library may need another version in a debug program.
#[test]
fn the_page_names_the_c_library() {
    let folder = folder("glibc");
    let program = program_of_deb(&packages().file(".deb"), &folder);
    let needed = highest_glibc(&read_elf("--version-info", &program)).unwrap();
    let mut query = Command::new(tool("rpm"));
    let required = said(query.args(["-qp", "--requires"]).arg(packages().file(".rpm")));
    println!("glibc 2.{needed}");
    assert_eq!(highest_glibc(&required), Some(needed), "{required}");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, named) = page.split_once("glibc 2.").expect("a version of glibc");
    let named: String = named.chars().take_while(char::is_ascii_digit).collect();
    assert!(needed <= named.parse().unwrap(), "it needs glibc 2.{needed}, the page says 2.{named}");
}

/// `deploy/package reproduce` compares two builds; this compares what two folders make of one program.
#[test]
fn two_folders_pack_the_same_bytes() {
    if packages().released {
        println!("not looked at: `deploy/package reproduce` compares what is released");
        return;
    }
    let place = folder("another-folder");
    let (sources, output) = (place.join("sources"), place.join("packages"));
    copy_sources(&sources);
    for line in ["deploy/package", "deploy/package static"] {
        pack(line, &sources, &machine::binary(), &output, None);
    }
    for ending in [".deb", ".rpm", ".tar.gz", "SHA256SUMS"] {
        let [here, there] = [&packages().directory, &output].map(|directory| {
            let found = files(directory, ending);
            assert_eq!(found.len(), 1, "{found:?}");
            fs::read(&found[0]).unwrap()
        });
        assert!(here.len() > 100 && here == there, "the bytes of {ending} differ");
    }
    let _ = fs::remove_dir_all(place);
}
