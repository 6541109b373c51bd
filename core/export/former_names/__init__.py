"""The modules that the script of a registered model imports which was stored when core was one folder.

MLflow stores its sources beside it, but where this version of core is loaded already, Python finds it by the same name.
core.__path__ ends here, so core.batches, core.checkpoint and core.model are these files. Models of today import a
package named by its content: see core.tracking.served_package.
"""
