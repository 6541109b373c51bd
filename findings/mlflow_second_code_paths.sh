#!/bin/bash
# MLflow 3.17.2: of two models-from-code models with a package of their own each (code_paths), the second that a process
# loads computes with the first one's package.
#
# Each model is stored with its script, its artifacts and a copy of the package, and the documentation calls that
# self-contained. Loaded alone, each answers with its own package. Loaded one after the other, the second runs its own
# script, but the import in it finds the first one's package by its name in sys.modules: MLflow only puts the model's
# code folder first on sys.path. So a comparison of two versions, or a service that takes a new version without a
# restart, silently computes with the wrong code. Two packages of different names are kept apart.
set -e
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q mlflow==3.17.2 setuptools
cd "$folder"
cat > script.py << 'END'
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from package import VALUE


class Constant(PythonModel):
    def predict(self, context, model_input, params=None):
        return [VALUE] * len(model_input)


set_model(Constant())
END
cat > save.py << 'END'
import sys
import mlflow.pyfunc
from pathlib import Path
name, value, package = sys.argv[1:]
folder = Path(name, package)
folder.mkdir(parents=True)
(folder / "__init__.py").write_text(f"VALUE = {value}\n")
script = Path(name, "script.py")
script.write_text(Path("script.py").read_text().replace("from package", f"from {package}"))
sys.path.insert(0, name)
mlflow.pyfunc.save_model(f"{name}-model", python_model=str(script), code_paths=[str(folder)], pip_requirements=["mlflow"])
END
cat > load.py << 'END'
import sys
import mlflow.pyfunc
import pandas
print(*(mlflow.pyfunc.load_model(f"{name}-model").predict(pandas.DataFrame({"x": [0]}))[0] for name in sys.argv[1:]))
END
export MLFLOW_DISABLE_TELEMETRY=true PYTHONWARNINGS=ignore MLFLOW_LOGGING_LEVEL=ERROR
run() { "$folder/venv/bin/python" "$@" 2> "$folder/errors" || { cat "$folder/errors"; exit 1; }; }
run save.py one 1 package > /dev/null
run save.py two 2 package > /dev/null
run save.py three 3 another > /dev/null
"$folder/venv/bin/python" -c "import mlflow; print('mlflow', mlflow.__version__)"
alone="$(run load.py one) $(run load.py two) $(run load.py three)"
together="$(run load.py one two three)"
echo "each in a process of its own: $alone"
echo "in one process: $together"
[ "$alone" = "1 2 3" ] && [ "$together" = "1 1 3" ]
