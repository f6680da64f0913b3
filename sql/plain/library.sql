CREATE TABLE federated.library (
    path   text PRIMARY KEY,
    source text NOT NULL
);
COMMENT ON TABLE federated.library IS 'The Python sources that statements run on: this installation has no files on the server';
COMMENT ON COLUMN federated.library.path IS 'The file''s path in the library';
COMMENT ON COLUMN federated.library.source IS 'The file as it is';

-- The importer comes first on Python's list, so that nothing on the server's disk stands in for these modules.
CREATE FUNCTION federated._load_library() RETURNS void
LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
import importlib.abc, importlib.util, sys

class Folder:
    """What importlib.resources asks for: files of a package, by name."""

    def __init__(self, files, path):
        self.files_by_path, self.path = files, path

    def joinpath(self, *names):
        return Folder(self.files_by_path, "/".join((self.path, *names)))

    def read_text(self, encoding="utf-8"):
        return self.files_by_path[self.path]


class Resources:
    def __init__(self, folder):
        self.folder = folder

    def files(self):
        return self.folder


class Library(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads the modules of federated.library."""

    def __init__(self, files):
        self.files_by_path = files

    def path_of(self, name):
        path = name.replace(".", "/")
        return next((p for p in (path + "/__init__.py", path + ".py") if p in self.files_by_path), None)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ("heliosdb", "federated_sql"):
            return None
        found = self.path_of(name)
        if found is None:
            raise ModuleNotFoundError("federated.library has no module " + name, name=name)
        return importlib.util.spec_from_loader(
            name, self, origin="federated.library/" + found, is_package=found.endswith("/__init__.py"))

    def is_package(self, name):
        return self.path_of(name).endswith("/__init__.py")

    def get_source(self, name):
        return self.files_by_path[self.path_of(name)]

    def get_resource_reader(self, name):
        return Resources(Folder(self.files_by_path, name.replace(".", "/")))

    def exec_module(self, module):
        path = self.path_of(module.__name__)
        exec(compile(self.files_by_path[path], "federated.library/" + path, "exec"), module.__dict__)

sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "Library"]
rows = plpy.execute("SELECT path, source FROM federated.library")
sys.meta_path.insert(0, Library({row["path"]: row["source"] for row in rows}))
$$;
COMMENT ON FUNCTION federated._load_library() IS 'Makes Python find this session''s modules in federated.library';

REVOKE ALL ON FUNCTION federated._load_library() FROM PUBLIC;
GRANT SELECT ON federated.library TO federated_analyst, federated_auditor, federated_daemon, federated_owner;
GRANT EXECUTE ON FUNCTION federated._load_library()
TO federated_analyst, federated_auditor, federated_daemon, federated_owner;

