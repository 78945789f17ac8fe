# Train, freeze, test on a structure the model has not seen, predict its full grid, draw. About two minutes on two cores.
set -e
dcharge train input.json
dcharge freeze -o frozen.pth
dcharge test -m frozen.pth -s si64_04.cube.gz --json test.json
dcharge predict -m frozen.pth si64_04.cube.gz --like si64_04.cube.gz -o predicted.cube
dcharge plot -m frozen.pth -s si64_04.cube.gz -o silicon.png
echo "picture: $(pwd)/silicon.png"
